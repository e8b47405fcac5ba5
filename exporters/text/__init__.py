"""Tokenizers as ONNX graphs: a program that takes texts, with the operators of onnxruntime-extensions."""
