"""The methods: one folder each, reading like its paper."""

from framelift.compat import repair_torchvision

repair_torchvision()
