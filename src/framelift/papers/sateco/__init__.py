"""SATeCo's tables and figures."""
