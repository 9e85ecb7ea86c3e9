"""StableVSR: an image upscaler turned into a video upscaler by temporal texture guidance."""
