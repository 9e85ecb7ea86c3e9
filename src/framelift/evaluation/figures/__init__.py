"""Figures of the papers, each a function of a request (see docs/evaluation.md)."""
