"""Drivers for batch systems: pure `argv()` and `parse()` functions and one runner."""
