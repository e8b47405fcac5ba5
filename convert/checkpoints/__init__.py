"""Opens checkpoints, local or from the Hub, and finds the model class that their tensors belong to."""
