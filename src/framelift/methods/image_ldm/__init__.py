"""Per-frame latent diffusion upscaler, the baseline of StableVSR."""
