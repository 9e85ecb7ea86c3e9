"""What makes a video bad, as operations on frames `[T, 3, H, W]`, RGB in [0, 1].

Differentiable in the frames, except that JPEG passes gradients straight through and Poisson noise
treats its noise as a constant. Nothing here draws parameters: `framelift.degrade` does.
"""
