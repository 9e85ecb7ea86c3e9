"""Networks and codecs used by more than one method."""

from framelift.compat import repair_torchvision

repair_torchvision()
