"""Hand-written samples of ATen calls that PyTorch's own samples lack; one module for each module of ``ops``."""
