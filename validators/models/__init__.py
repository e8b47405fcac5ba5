"""Model folders: configs, tokenizers, processors, media, and the source that a backend loads."""
