"""JAX and TensorFlow programs made from lowered graphs."""
