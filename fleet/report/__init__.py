"""One page over all results of a fleet."""
