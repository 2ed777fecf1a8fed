"""The development mesh: the four services and Redis as real processes on this machine, with a CA of its own.

`make run`, the tests and the benchmarks all start the same one.
"""
