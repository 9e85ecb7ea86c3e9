"""SATeCo: spatial adaptation and temporal coherence in the decoders of a latent diffusion model."""
