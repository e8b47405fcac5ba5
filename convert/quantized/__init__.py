"""Quantized weights as plain floats: for each method, which tensors belong together and the arithmetic of its paper."""
