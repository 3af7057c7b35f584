"""Seeing Quality: the minimal package behind the notebooks. One idea a file; import the file that you need."""

__version__ = "0.1.0"
