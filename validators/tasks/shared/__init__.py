"""Code that several tasks share, by modality."""
