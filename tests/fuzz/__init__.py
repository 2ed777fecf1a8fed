"""Fuzzing of parsers in this process: `python -m tests.fuzz` for as long as one likes, the kept corpus in the tests."""
