"""Text generation on any runner: greedy search, beam search, logits processors."""
