"""Benchmarks of the library, alone and in comparison with other servers. `python -m benchmarks` runs all of them."""
