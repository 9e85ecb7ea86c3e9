"""RAFT (Teed & Deng 2020) by torchvision, which is in the extra `eval`."""

from typing import Any

import torch
from torch import Tensor

from framelift.flow.base import pad_to
from framelift.weights.torchvision import torchvision_weights

MULTIPLE, MINIMUM = 8, 128  # its features are 1/8 of the frame, and three times halved
WEIGHTS = {
    "raft": ("raft_large", "C_T_SKHT_V2"),
    "raft-things": ("raft_large", "C_T_V1"),
    "raft-small": ("raft_small", "C_T_V2"),
}


class RAFTFlow:
    """RAFT in evaluation mode, float32. See `FlowEstimator`.

    Its weights are looked for where torchvision keeps them, in $TORCH_HOME/hub/checkpoints, and
    downloaded if they are not there. UsageError where torchvision is missing, InputError where the
    weights are.
    """

    def __init__(
        self, name: str = "raft", *, iterations: int = 12, device: torch.device | str = "cpu"
    ) -> None:
        architecture, weights = WEIGHTS[name]
        self.name, self.iterations = name, iterations
        self.protocol: dict[str, str | int] = {
            "flow": f"torchvision {architecture}",
            "flow_weights": weights,
            "flow_iterations": iterations,
        }
        self.device = torch.device(device)
        self._network = _load(architecture, weights).to(self.device)

    @torch.no_grad()
    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        height, width = a.shape[-2:]
        first, second = (
            pad_to(frames.to(self.device, torch.float32) * 2 - 1, MULTIPLE, MINIMUM)
            for frames in (a, b)
        )
        flow = self._network(first, second, num_flow_updates=self.iterations)[-1]
        return flow[..., :height, :width].contiguous().to(a.device)


def _load(architecture: str, name: str) -> Any:
    file = f"{architecture}_{name}-*.pth"
    with torchvision_weights("RAFT", file, "use the flow dis"):
        from torchvision.models import get_model, get_model_weights

        state = get_model_weights(architecture)[name].get_state_dict(
            progress=False, check_hash=True, weights_only=True
        )
        network = get_model(architecture, weights=None)
        network.load_state_dict(state)
    return network.eval().requires_grad_(False)
