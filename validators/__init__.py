"""Running tasks on backends, comparing, reporting."""

if __name__ == "validators":
    raise ImportError(
        "this folder is equipoise.validators; it was imported as 'validators', the name of another "
        "package, because the repository's root is on sys.path (run `pytest`, not `python -m pytest`)"
    )
