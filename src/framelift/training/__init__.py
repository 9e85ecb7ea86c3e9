"""Training: one loop, recipes."""

from framelift.compat import repair_torchvision

repair_torchvision()
