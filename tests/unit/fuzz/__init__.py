"""Fuzzers of everything that reads foreign bytes. `python -m tests.unit.fuzz --inputs 100000`."""
