"""Presets, and where their weights come from: shipped in the package, the hub, local folders."""
