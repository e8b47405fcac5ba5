"""Functions that change an artifact so that it is wrong in a known way; kinds.toml names them."""
