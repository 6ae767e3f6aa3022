"""wspilot: virtual machines on a cluster that keeps running jobs under its own scheduler."""

__version__ = "0.1.0"
