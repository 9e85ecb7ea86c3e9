"""Which optical flow. Imports no torch."""

from typing import Literal

FlowName = Literal["dis", "dis-fast", "dis-ultrafast", "raft", "raft-things", "raft-small"]
"""dis: OpenCV's DIS, no weights (medium preset; -fast, -ultrafast: those). raft: torchvision's
RAFT-large, weights C_T_SKHT_V2 as StableVSR uses (-things: C_T_V1, trained on FlyingChairs and
FlyingThings3D; -small: RAFT-small)."""
