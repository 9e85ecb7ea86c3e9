"""StableVSR's tables and figures."""
