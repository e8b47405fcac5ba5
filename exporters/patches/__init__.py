"""Changes to models that ``torch.export`` cannot follow as they are."""
