"""Text generation over any runner: greedy search, beam search, logits processors."""
