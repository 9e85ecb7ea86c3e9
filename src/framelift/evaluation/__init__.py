"""Numbers that state their protocol: evaluation, the papers' tables and figures, reports."""
