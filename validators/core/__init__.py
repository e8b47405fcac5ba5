"""Types, tolerances and requests that every other folder of the validators builds on."""
