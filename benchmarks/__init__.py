"""What the library costs, alone and beside others. `python -m benchmarks` runs all of it."""
