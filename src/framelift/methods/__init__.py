"""The methods: one folder each, reading like its paper. Importing this needs no torch."""

from framelift.methods.registry import Method, find_method, list_methods

__all__ = ["Method", "find_method", "list_methods"]
