"""The methods: one folder each, reading like its paper. Importing this needs no torch."""

from framelift.methods.registry import METHODS, Method, find_method

__all__ = ["METHODS", "Method", "find_method"]
