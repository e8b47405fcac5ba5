"""Runs calls with ``pipeline()`` of transformers: ``python pipeline_calls.py CALLS.json MADE RESULTS.json``.

It is run by the oracle's interpreter (4.57.6), and then by that of the tests (5). CALLS is a list of ``{"task", "model", "options", "samples"}``; MADE is the
folder in which the models of ``fixtures/calls`` are written first, unless they are there. RESULTS is a list as long, with ``{"results"}`` or ``{"raises"}``.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from json_values import to_json_value

from equipoise.fixtures.calls.folder import make
from equipoise.fixtures.make_pipeline_goldens import (
    TASKS,
    load_processors,
    open_media,
    patch_nms,
)

SECONDS_PER_CALL = 10
"""Limit of one call: a Whisper whose times do not move on writes for ever."""


MADE = "made"
"""Name of the file that says that all models are there."""


def main() -> None:
    """Writes the results of all calls."""
    import torch
    import transformers

    calls_file, made, results_file = map(Path, sys.argv[1:])
    torch.set_num_threads(1)
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    transformers.logging.disable_progress_bar()
    calls = json.loads(calls_file.read_text())
    with suppress(ImportError):  # transformers 5 has no image processor of SAM without torchvision
        patch_nms({})
    stand_in_for_av()
    signal.signal(signal.SIGALRM, _stop)
    wanted = {
        call["model"].removeprefix("made/") for call in calls if call["model"].startswith("made/")
    }
    if not (made / MADE).exists():
        make(made, sorted(wanted))
        (made / MADE).touch()
    runner = Runner(made)
    found = []
    for call in calls:
        begin = time.perf_counter()
        signal.alarm(SECONDS_PER_CALL)
        found.append({**runner.run(call), "seconds": round(time.perf_counter() - begin, 3)})
        signal.alarm(0)
    results_file.write_text(json.dumps(found))


class Runner:
    """Runs calls; keeps the last pipeline, so that calls of one model load it once.

    Args:
        made: The folder of the models made for the purpose.
    """

    def __init__(self, made: Path) -> None:
        self._made = made
        self._key: tuple[str, str] | None = None
        self._pipe: Any = None

    def run(self, call: dict[str, Any]) -> dict[str, Any]:
        """Returns the results of a call, or what it raises."""
        try:
            folder = locate(call["model"], self._made)
            pipe = self._load(call["task"], folder)
            return {
                "results": [
                    to_json_value(_call(pipe, folder, sample, deepcopy(call["options"])))
                    for sample in call["samples"]
                ]
            }
        except Exception as error:  # noqa: BLE001 - whatever pipeline() raises is its outcome
            return {"raises": f"{type(error).__name__}: {str(error).strip()[:300]}"}

    def _load(self, task: str, folder: Path) -> Any:
        import transformers

        key = (task, str(folder))
        if self._key != key:
            processors = load_processors(folder, task)
            self._pipe = transformers.pipeline(task, model=str(folder), device="cpu", **processors)
            self._key = key
        return self._pipe


def _stop(number: int, frame: Any) -> None:
    raise TimeoutError(f"longer than {SECONDS_PER_CALL} s")


def locate(model: str, made: Path) -> Path:
    """Returns the folder of a model: ``tasks/NAME`` of the fixtures, or ``made/NAME``."""
    kind, _, name = model.partition("/")
    return made / name if kind == "made" else TASKS / name


def _call(pipe: Any, folder: Path, sample: dict[str, Any], options: dict[str, Any]) -> Any:
    """Calls a pipeline with a sample as its users do."""
    given = {name: _open(name, value) for name, value in sample.items()}
    if "images" in given:
        given["images"] = [open_media(TASKS, "image", one) for one in given["images"]]
    settings = options.get("generate_kwargs", options)
    if "stop_strings" in settings:
        settings["tokenizer"] = pipe.tokenizer
    if "prompt_ids" in settings:
        import torch

        settings["prompt_ids"] = torch.tensor(settings["prompt_ids"])
    labels = {name: given.pop(name) for name in ("candidate_labels",) if name in given}
    if pipe.task == "zero-shot-audio-classification":
        return pipe(given["audio"]["raw"], **labels, **options)
    if set(given) in ({"text"}, {"audio"}, {"image"}, {"video"}):
        return pipe(next(iter(given.values())), **labels, **options)
    if "context" in given:
        return pipe(**given, **options)
    if "images" in given or ("image" in given and "text" in given):
        return pipe(images=given.get("images", given.get("image")), text=given["text"], **options)
    return pipe(given, **options)


def stand_in_for_av() -> None:
    """Stands in for PyAV, which reads the video of a pipeline: a video is a JSON list of images here."""
    import numpy as np
    from PIL import Image
    from transformers.pipelines import video_classification

    class Frame:
        def __init__(self, path: str) -> None:
            self.path = path

        def to_ndarray(self, format: str) -> Any:
            return np.asarray(Image.open(self.path).convert("RGB"))

    class Container:
        def __init__(self, paths: str) -> None:
            self.frames = [Frame(path) for path in json.loads(paths)]

        def seek(self, position: int) -> None:
            """Does nothing: the frames are a list."""

        def decode(self, video: int) -> list[Frame]:
            return self.frames

    video_classification.np = np
    video_classification.av = SimpleNamespace(open=Container)
    video_classification.requires_backends = lambda *arguments: None


def _open(name: str, value: Any) -> Any:
    """Returns what a pipeline takes for a field of a sample; audio ``LOOP n file`` is the file n times."""
    if name == "audio" and value.startswith("LOOP "):
        import numpy as np

        _, count, file = value.split(" ", 2)
        once = open_media(TASKS, name, file)
        return {**once, "raw": np.tile(once["raw"], int(count))}
    if name == "video":
        return json.dumps([str(TASKS / frame) for frame in value])
    return open_media(TASKS, name, value)


if __name__ == "__main__":
    main()
