"""Says what a folder or a file is, and where in a folder the weights lie; reads names and first bytes only."""
