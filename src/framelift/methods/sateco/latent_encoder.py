"""E_z: from the latent code Z of the enlarged LR video to guidance for the UNet (section 3.2)."""

from typing import Any

from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn


class LatentEncoder(ModelMixin, ConfigMixin):
    """A pyramid of residual blocks, halved between scales, one map for each UNet decoder block.

    `out_channels` are those of the decoder's blocks in its own order, smallest map first. The
    sizes of the maps are rounded up when halved, as the UNet's are. It knows no timestep: Z is
    clean.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 4,
        width: int = 256,
        multipliers: tuple[int, ...] = (1, 1, 2, 2),
        layers: int = 2,
        out_channels: tuple[int, ...] = (1280, 1280, 640, 320),
        groups: int = 32,
    ) -> None:
        super().__init__()
        if len(multipliers) != len(out_channels):
            raise ValueError(f"{len(multipliers)} scales do not give {len(out_channels)} maps")
        self.stem = nn.Conv2d(in_channels, width, 3, padding=1)
        self.scales: Any = nn.ModuleList()
        self.maps = nn.ModuleList()
        now = width
        for n, (multiplier, out) in enumerate(zip(multipliers, out_channels[::-1], strict=True)):
            blocks: list[Any] = [Downsample2D(now, use_conv=True, name="op")] if n else []
            for _ in range(layers):
                blocks.append(_residual_block(now, width * multiplier, groups))
                now = width * multiplier
            self.scales.append(nn.ModuleList(blocks))
            self.maps.append(nn.Conv2d(now, out, 1))

    def forward(self, z: Tensor) -> list[Tensor]:
        """Z `[N, c, h, w]` → maps `[N, C_i, h_i, w_i]`, in the order of the decoder's blocks."""
        x, maps = self.stem(z), []
        for blocks, to_map in zip(self.scales, self.maps, strict=True):
            for block in blocks:
                x = block(x, None) if isinstance(block, ResnetBlock2D) else block(x)
            maps.append(to_map(x))
        return maps[::-1]


def _residual_block(now: int, new: int, groups: int) -> nn.Module:
    timeless: Any = None  # diffusers' annotation does not know it, its code does
    return ResnetBlock2D(in_channels=now, out_channels=new, temb_channels=timeless, groups=groups)
