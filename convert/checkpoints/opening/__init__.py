"""Opens checkpoints: finds the files, the weights in them and the config."""
