"""What a fleet does, and where its results lie."""
