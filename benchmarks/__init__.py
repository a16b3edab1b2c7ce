"""Benchmarks of the library.

`python -m benchmarks` measures the core alone and compares servers. Other measurements have commands of their own, such
as `python -m benchmarks.calls`.
"""
