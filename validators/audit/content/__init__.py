"""What an audit compares: weights of a program, tensors of its source, and the report."""
