"""VDM-VSR: super-resolution as an inverse problem, with an unconditional video diffusion prior."""
