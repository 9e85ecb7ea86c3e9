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
from functools import cached_property, wraps
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor

from framelift.diffusion.codecs import LatentSpace
from framelift.ops.resize import upscale

Method = TypeVar("Method", bound=Callable[..., Tensor])


def in_float32(method: Method) -> Method:
    """Shield a codec method from autocast: in bfloat16, detail of a few levels is rounded away."""

    @wraps(method)
    def shielded(self: Any, *args: Any) -> Tensor:
        with torch.autocast(self.lr.device.type, enabled=False):
            return method(self, *args)

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
        color = torch.tensor([0] * len(basis) + [1] * len(low) + [2] * len(low))
        basis = torch.cat([basis, basis[low], basis[low]])
        self.register_buffer("to_ycc", torch.tensor(BT601), persistent=False)
        to_rgb = torch.linalg.inv(torch.tensor(BT601))
        analysis = torch.einsum("kc,kij->kcij", torch.tensor(BT601)[color], basis)
        synthesis = torch.einsum("ck,kij->cijk", to_rgb[:, color], basis).flatten(0, 2)
        self.register_buffer("analysis", analysis, persistent=False)
        self.register_buffer("synthesis", synthesis[..., None, None], persistent=False)
        self.register_buffer("std", torch.ones(len(basis)))

    @property
    def factor(self) -> int:
        return self.config["factor"]

    @property
    def latent_space(self) -> LatentSpace:
        """Its latents; the condition is the LR frame and its local detail."""
        return LatentSpace(len(self.std), self.factor, condition_channels=6)

    def bind(self, lr: Tensor) -> "BoundTransform":
        """The codec of the frames whose LR versions are `lr` `[T, 3, h, w]`."""
        return BoundTransform(self, lr)

    @torch.no_grad()
    def fit(self, hr: Tensor, lr: Tensor) -> None:
        """Measure `std` on crops `[N, 3, H, W]` and their LR versions."""
        self.std.fill_(1)
        self.std.copy_(self.bind(lr).encode(hr).transpose(0, 1).flatten(1).std(dim=1))


class BoundTransform:
    """The codec bound to LR frames; what depends on them alone is computed once.

    Colours are mixed by convolutions, since a matrix product may round by alignment.
    """

    def __init__(self, codec: BlockTransformCodec, lr: Tensor) -> None:
        self.codec, self.lr = codec, lr.float()

    @cached_property
    def enlarged(self) -> Tensor:
        """The bicubic enlargement `[T, 3, H, W]`."""
        return upscale(self.lr, self.codec.factor)

    @cached_property
    def gain(self) -> Tensor:
        """Expected size of the residual `[T, 1, h, w]`: (σ² + floor²)^(γ/2), σ local contrast."""
        config = self.codec.config
        y = F.conv2d(self.lr, self._on(self.codec.to_ycc)[:1, :, None, None])
        variance = (self._local_mean(y.square()) - self._local_mean(y).square()).clamp(min=0)
        return (variance + config["gain_floor"] ** 2) ** (config["gain_exponent"] / 2)

    @in_float32
    def condition(self) -> Tensor:
        """The LR frame, and its local detail over the gain: a signal as even as the latents.

        Without it, detail of a few levels drowns beside unit noise, and the network hardly learns
        to use the LR frame (docs/methods/image_ldm.md).
        """
        ycc = F.conv2d(self.lr, self._on(self.codec.to_ycc)[:, :, None, None])
        return torch.cat([self.lr, 2 * (ycc - self._local_mean(ycc)) / self.gain], dim=1)

    @in_float32
    def guidance(self, picture: Tensor) -> Tensor:
        """What the picture has over bicubic, over the local gain: as even as the latents."""
        return (picture.float() - self.enlarged).div_(self._contrast())

    @in_float32
    def from_guidance(self, guidance: Tensor) -> Tensor:
        """The picture that `guidance` shows."""
        return (guidance.float() * self._contrast()).add_(self.enlarged)

    @in_float32
    def encode(self, hr: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """See `Codec`; nothing is drawn."""
        residual, factor = hr.float() - self.enlarged, self.codec.factor
        coefficients = F.conv2d(residual, self._on(self.codec.analysis), stride=factor)
        return coefficients / (self.gain * self._std[:, None, None])

    @in_float32
    def decode(self, latents: Tensor) -> Tensor:
        """See `Codec`."""
        synthesis = self._on(self.codec.synthesis) * self._std[:, None, None]
        blocks = F.conv2d(latents.float() * self.gain, synthesis)
        return F.pixel_shuffle(blocks, self.codec.factor).add_(self.enlarged)

    @property
    def _std(self) -> Tensor:
        return self._on(self.codec.std)

    def _on(self, table: Tensor) -> Tensor:
        """One of the transform's tables where the frames are (offloading leaves it elsewhere)."""
        return table.to(self.lr.device, torch.float32)

    def _local_mean(self, x: Tensor) -> Tensor:
        window = self.codec.config["gain_window"]
        return F.avg_pool2d(F.pad(x, (window // 2,) * 4, mode="replicate"), window, 1)

    def _contrast(self) -> Tensor:
        """Expected size of the luma's residual at every pixel `[T, 1, H, W]`."""
        factor = self.codec.factor
        luma = self._std[: factor**2].square().mean().sqrt()
        return F.interpolate(self.gain * luma, scale_factor=factor, mode="nearest")


def dct_basis(n: int) -> Tensor:
    """Orthonormal DCT-II basis `[n·n, n, n]`, rows ordered by vertical then horizontal index."""
    k = torch.arange(n, dtype=torch.float64)
    basis = torch.cos((2 * k + 1) * k[:, None] * math.pi / (2 * n)) * math.sqrt(2 / n)
    basis[0] /= math.sqrt(2)
    return torch.einsum("ui,vj->uvij", basis, basis).reshape(n * n, n, n).float()
