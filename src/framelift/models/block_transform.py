"""A latent codec without training: the block DCT of what bicubic lacks.

Diffusing the residual over bicubic leaves the network only what has to be invented; an orthonormal
block transform at the LR's resolution is lossless and costs nothing beside a learned decoder.
Two facts about natural video shape it, both measured in docs/methods/image_ldm.md:

* The residual's size follows the local contrast of the LR frame by a power law. Dividing by that
  *gain* gives the network a signal of even variance, and makes any sampling error small exactly
  where grain would show: in flat areas.
* Colour hardly needs inventing. Chroma keeps its 2×2 lowest coefficients per 4×4 block.
"""

import math
from collections.abc import Callable
from functools import wraps
from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor

from framelift.ops.resize import upscale

Method = TypeVar("Method", bound=Callable[..., Tensor])


def in_float32(method: Method) -> Method:
    """Shield a codec method from autocast: in bfloat16, detail of a few levels is rounded away."""

    @wraps(method)
    def shielded(self: torch.nn.Module, *tensors: Tensor) -> Tensor:
        with torch.autocast(tensors[0].device.type, enabled=False):
            return method(self, *tensors)

    return cast(Method, shielded)


BT601 = (  # Y, Cb, Cr of gamma-encoded R, G, B
    (0.299, 0.587, 0.114),
    (-0.168736, -0.331264, 0.5),
    (0.5, -0.418688, -0.081312),
)


class BlockTransformCodec(ModelMixin, ConfigMixin):
    """Residual over bicubic → YCbCr → block DCT → divided by local gain and channel deviation.

    Latents have `factor`² luma channels and `chroma`² channels for each of Cb and Cr, at the LR's
    resolution. `std` holds their standard deviations over the training clips (see `fit`).
    """

    @register_to_config
    def __init__(
        self,
        factor: int = 4,
        chroma: int = 2,
        gain_exponent: float = 0.7,
        gain_floor: float = 0.008,
        gain_window: int = 5,
    ) -> None:
        super().__init__()
        basis = dct_basis(factor)
        low = [u * factor + v for u in range(chroma) for v in range(chroma)]
        self.register_buffer("luma_basis", basis, persistent=False)
        self.register_buffer("chroma_basis", basis[low], persistent=False)
        self.register_buffer("to_ycc", torch.tensor(BT601), persistent=False)
        self.register_buffer("to_rgb", torch.linalg.inv(torch.tensor(BT601)), persistent=False)
        self.register_buffer("std", torch.ones(factor**2 + 2 * chroma**2))

    @property
    def factor(self) -> int:
        return self.config["factor"]

    @property
    def latent_channels(self) -> int:
        return len(self.std)

    @property
    def condition_channels(self) -> int:
        return 6

    @in_float32
    def condition(self, lr: Tensor) -> Tensor:
        """The LR frame, and its local detail over the gain: a signal as even as the latents.

        Without it, detail of a few levels drowns beside unit noise, and the network hardly learns
        to use the LR frame (docs/methods/image_ldm.md).
        """
        ycc = _mix(self.to_ycc, lr.float())
        return torch.cat([lr, 2 * (ycc - self._local_mean(ycc)) / self._gain(lr)], dim=1)

    @in_float32
    def guidance(self, picture: Tensor, lr: Tensor) -> Tensor:
        """What the picture has over bicubic, over the local gain: as even as the latents."""
        luma = self.std[: self.factor**2].float().square().mean().sqrt()
        gain = F.interpolate(self._gain(lr) * luma, scale_factor=self.factor, mode="nearest")
        return (picture.float() - upscale(lr.float(), self.factor)) / gain

    @in_float32
    def to_latents(self, hr: Tensor, lr: Tensor) -> Tensor:
        """See `LatentCodec`."""
        return self._coefficients(hr, lr) / self._scale(lr)

    @in_float32
    def to_frames(self, latents: Tensor, lr: Tensor) -> Tensor:
        """See `LatentCodec`."""
        luma, cb, cr = (latents.float() * self._scale(lr)).split(self._splits, dim=1)
        residual = torch.cat(
            [
                F.conv_transpose2d(luma, self.luma_basis.float(), stride=self.factor),
                F.conv_transpose2d(cb, self.chroma_basis.float(), stride=self.factor),
                F.conv_transpose2d(cr, self.chroma_basis.float(), stride=self.factor),
            ],
            dim=1,
        )
        return upscale(lr.float(), self.factor) + _mix(self.to_rgb, residual)

    @torch.no_grad()
    def fit(self, hr: Tensor, lr: Tensor) -> None:
        """Measure `std` on crops `[N, 3, H, W]` and their LR versions."""
        coefficients = self._coefficients(hr, lr) / self._gain(lr)
        self.std.copy_(coefficients.transpose(0, 1).flatten(1).std(dim=1))

    @property
    def _splits(self) -> list[int]:
        chroma = self.config["chroma"] ** 2
        return [self.factor**2, chroma, chroma]

    def _coefficients(self, hr: Tensor, lr: Tensor) -> Tensor:
        y, cb, cr = _mix(self.to_ycc, hr.float() - upscale(lr.float(), self.factor)).split(1, dim=1)
        return torch.cat(
            [
                F.conv2d(y, self.luma_basis.float(), stride=self.factor),
                F.conv2d(cb, self.chroma_basis.float(), stride=self.factor),
                F.conv2d(cr, self.chroma_basis.float(), stride=self.factor),
            ],
            dim=1,
        )

    def _gain(self, lr: Tensor) -> Tensor:
        """Expected size of the residual `[T, 1, h, w]`: (σ² + floor²)^(γ/2), σ local contrast."""
        y = _mix(self.to_ycc[:1], lr.float())
        variance = (self._local_mean(y.square()) - self._local_mean(y).square()).clamp(min=0)
        return (variance + self.config["gain_floor"] ** 2) ** (self.config["gain_exponent"] / 2)

    def _local_mean(self, x: Tensor) -> Tensor:
        window = self.config["gain_window"]
        return F.avg_pool2d(F.pad(x, (window // 2,) * 4, mode="replicate"), window, 1)

    def _scale(self, lr: Tensor) -> Tensor:
        return self._gain(lr) * self.std.float()[:, None, None]


def dct_basis(n: int) -> Tensor:
    """Orthonormal DCT-II basis `[n·n, 1, n, n]`, rows ordered by vertical then horizontal index."""
    k = torch.arange(n, dtype=torch.float64)
    basis = torch.cos((2 * k + 1) * k[:, None] * math.pi / (2 * n)) * math.sqrt(2 / n)
    basis[0] /= math.sqrt(2)
    return torch.einsum("ui,vj->uvij", basis, basis).reshape(n * n, 1, n, n).float()


def _mix(matrix: Tensor, x: Tensor) -> Tensor:
    """Mix the channels of `x` `[T, 3, h, w]`; a convolution, since gemm may round by alignment."""
    return F.conv2d(x, matrix.float()[:, :, None, None])
