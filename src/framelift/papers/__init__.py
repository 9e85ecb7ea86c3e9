"""The papers' tables and figures, a folder a paper: what is made, and what draws it."""
