"""Prints the parameters of the pipelines of transformers 4.57.6 as JSON: ``python declared_calls.py TASK ...``."""

from __future__ import annotations

import inspect
import json
import sys

HIDDEN = frozenset({"self", "kwargs", "tokenizer_kwargs_", "args"})
STEPS = ("_sanitize_parameters", "__call__")


def main() -> None:
    """Prints ``{"pipelines": {task: names}, "generation": names}``."""
    import transformers
    from transformers.pipelines import PIPELINE_REGISTRY

    names = {}
    for task in sys.argv[1:]:
        _, entry, _ = PIPELINE_REGISTRY.check_task(task)
        signature = inspect.signature(entry["impl"]._sanitize_parameters)
        plain = [
            one.name
            for one in signature.parameters.values()
            if one.kind is not inspect.Parameter.VAR_KEYWORD and one.name not in HIDDEN
        ]
        source = inspect.getsource(entry["impl"]._sanitize_parameters)
        # Some pipelines read their parameters out of **kwargs.
        read = [part.split('"')[0] for part in source.split('kwargs["')[1:]]
        read += [part.split('"')[0] for part in source.split('if "')[1:] if '" in ' in part[:60]]
        names[task] = sorted({*plain, *read} - HIDDEN)
    fields = [name for name in vars(transformers.GenerationConfig()) if not name.startswith("_")]
    print(json.dumps({"pipelines": names, "generation": fields}))


if __name__ == "__main__":
    main()
