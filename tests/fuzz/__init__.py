"""A mutation fuzzer for everything that reads files: a right answer or one of the package's own exceptions.

`python -m tests.fuzz --files 10000 --seed 0`; a case is named by (seed, target, number) and can be run alone.
"""
