"""PSLD's extra term, which keeps latents where the encoder would put them.

Rout et al., "Solving Linear Inverse Problems Provably via Posterior Sampling with Latent Diffusion
Models", NeurIPS 2023, eq. 6: ‖E(Aᵀy + (I - AᵀA) D(ẑ0)) - ẑ0‖. Not part of VDM-VSR; an option.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from framelift.diffusion.codecs import KLCodec
from framelift.methods.vdm_vsr.measurement import Measurement


def gluing(codec: KLCodec, z0: Tensor, measurements: Sequence[Measurement]) -> Tensor:
    """The term for every clip of `z0` `[B, c, T, h, w]`, over its observed frames: `[B]`.

    Aᵀ is the operator's adjoint at the decoded frames, whether it is linear or not.
    """
    terms = []
    for z, m in zip(z0, measurements, strict=True):
        z = z.transpose(0, 1) if m.kept is None else z[:, list(m.kept)].transpose(0, 1)
        x = codec.decode(z)
        observed, adjoint, *_ = torch.func.vjp(m.operator, x)
        (correction,) = adjoint(m.y - observed)  # Aᵀ(y - A x)
        encoded = codec.posterior(x + correction).mean
        terms.append(torch.linalg.vector_norm(codec.normalise(encoded) - z))
    return torch.stack(terms)
