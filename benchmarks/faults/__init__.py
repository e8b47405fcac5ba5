"""A public corpus of faults: programs and checkpoints that are wrong in a known way, and who notices.

`PYTHONPATH=benchmarks python -m faults` plants them, judges them, and writes docs/faults.md. The table of kinds is
`kinds.toml`; each kind names the function that plants it.
"""
