"""Fuzzing of parsers in this process: `make fuzz-messages` for as long as one likes, the kept corpus in the tests."""
