"""Benchmarks: speed, memory and accuracy, measured against other implementations.

See ``docs/benchmarks.md``.
"""
