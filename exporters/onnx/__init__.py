"""Work on ONNX files around ``torch.onnx.export``: clean-ups, external data, merging, ONNX Runtime's own passes."""
