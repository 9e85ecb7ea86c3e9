"""The causal VAE on CPUs: three-dimensional convolutions as two-dimensional ones.

A convolution over time and space is one over space of the frames that its kernel covers, laid side
by side as channels. PyTorch's convolutions of planes are about ten times as fast there as those of
volumes on a processor without AVX-512; the result is the same up to rounding.
"""

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanRMS_norm
from torch import Tensor


def use_planes(vae: AutoencoderKLWan) -> None:
    """Let the VAE compute so wherever it is on a CPU; its weights stay as they are."""
    for module in vae.modules():
        if type(module) is WanCausalConv3d:
            module.__class__ = PlaneCausalConv3d
        elif type(module) is WanRMS_norm:
            module.__class__ = PlaneRMSNorm


class PlaneCausalConv3d(WanCausalConv3d):
    """`WanCausalConv3d`; on a CPU, by `conv2d`."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002
        if input.device.type != "cpu":
            return super()._conv_forward(input, weight, bias)
        batch, channels, frames, height, width = input.shape
        taps, step = self.kernel_size[0], self.stride[0]
        count = (frames - taps) // step + 1
        planes = input.permute(0, 2, 3, 4, 1)  # channels last, as they lie in memory behind conv2d
        last = step * (count - 1) + 1
        shifted = [planes[:, k : k + last : step] for k in range(taps)]
        x = torch.cat(shifted, dim=-1) if taps > 1 else shifted[0]
        x = x.reshape(batch * count, height, width, taps * channels).permute(0, 3, 1, 2)
        kernel = weight.permute(0, 2, 1, 3, 4).flatten(1, 2)
        kernel = kernel.contiguous(memory_format=torch.channels_last)
        y = F.conv2d(x, kernel, bias, self.stride[1:])
        y = y.permute(0, 2, 3, 1).reshape(batch, count, *y.shape[2:], len(weight))
        return y.permute(0, 4, 1, 2, 3)


class PlaneRMSNorm(WanRMS_norm):
    """`WanRMS_norm`; on a CPU, over channels that lie side by side."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or not self.channel_first:
            return super().forward(x)
        last = x.movedim(1, -1)
        root = last.square().mean(-1, keepdim=True).clamp_min(1e-24).rsqrt()
        normed = last * root.to(x.dtype) * self.gamma.flatten()
        return normed.movedim(-1, 1) + self.bias
