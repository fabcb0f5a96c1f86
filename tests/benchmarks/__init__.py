"""Measurements, run by `make bench` or `python -m tests.benchmarks [NAME…]`; never timed by the tests.

What matters is the ratios, taken in the same run: the figures themselves belong to the machine. Every round starts
a fresh process on a fresh store, the rounds of everything compared are interleaved, and medians are shown.
"""
