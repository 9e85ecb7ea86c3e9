"""The pseudo-text thesis' tables and figures."""
