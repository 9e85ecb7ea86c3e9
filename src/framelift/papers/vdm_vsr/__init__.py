"""VDM-VSR's experiments (section IV): curves and pictures of Moving MNIST, BAIR's table."""
