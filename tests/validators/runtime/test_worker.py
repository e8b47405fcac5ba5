"""The protocol of the worker process; no framework is needed."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from equipoise.convert.core.errors import EquipoiseError, LimitError, WorkerError
from equipoise.validators.runtime import worker
from equipoise.validators.runtime.process import WorkerPool, WorkerProcess


@pytest.mark.parametrize(
    "array",
    [
        np.float32(1.5).reshape(()),
        np.zeros((0, 3), np.int64),
        np.arange(12, dtype=np.int32).reshape(3, 4).T,
        np.array([True, False]),
        np.arange(4, dtype=">f8"),
    ],
    ids=["scalar", "empty", "transposed", "bool", "big-endian"],
)
def test_frames_carry_arrays(array: np.ndarray) -> None:  # type: ignore[type-arg]
    stream = io.BytesIO()
    worker.write_frame(stream, {"op": "x", "text": "ä"}, {"a": array, "b": np.ones(2)})
    stream.seek(0)
    frame = worker.read_frame(stream)
    assert frame is not None
    header, arrays = frame
    assert header == {"op": "x", "text": "ä"}
    assert arrays["a"].shape == array.shape
    assert arrays["a"].dtype == array.dtype
    np.testing.assert_array_equal(arrays["a"], array)
    np.testing.assert_array_equal(arrays["b"], [1, 1])
    assert worker.read_frame(stream) is None


def test_flatten_keeps_floats_by_path() -> None:
    outputs = {"logits": np.ones(2, np.float32), "ids": np.ones(2, int), "past": [(np.zeros(1),)]}
    found = worker.flatten(outputs)
    assert {name: value.tolist() for name, value in found.items()} == {
        "logits": [1, 1],
        "past.0.0": [0],
    }


def test_versions_and_calls(tmp_path: Path) -> None:
    file = tmp_path / "functions.py"
    file.write_text("def double(number):\n    print('noise')\n    return {'twice': 2 * number}\n")
    with WorkerProcess(sys.executable) as environment:
        answer, _ = environment.request("hello")
        assert answer["versions"]["numpy"] == np.__version__
        assert environment.call(file, "double", number=21) == {"twice": 42}


def test_errors_are_returned(tmp_path: Path) -> None:
    file = tmp_path / "functions.py"
    file.write_text("def fail():\n    raise ValueError('on purpose')\n")
    with WorkerProcess(sys.executable) as environment:
        with pytest.raises(WorkerError, match="ValueError: on purpose"):
            environment.call(file, "fail")
        with pytest.raises(WorkerError, match="KeyError"):
            environment.request("nonsense")
        assert environment.request("hello")[0]["versions"]["python"]


def test_a_dead_worker_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "functions.py"
    file.write_text("import os\ndef leave():\n    os._exit(7)\n")
    with WorkerProcess(sys.executable) as environment:
        with pytest.raises(WorkerError, match="ended during 'call' with code 7"):
            environment.call(file, "leave")
        with pytest.raises(WorkerError):
            environment.request("hello")


def test_no_such_interpreter(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="no such interpreter"):
        WorkerProcess(tmp_path / "python")


def test_the_file_runs_without_equipoise() -> None:
    """The worker's file runs where Equipoise is not importable."""
    code = (
        "import sys, runpy; sys.modules['equipoise'] = None; "
        f"runpy.run_path({str(worker.__file__)!r}, run_name='other')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_validators_is_no_script() -> None:
    folder = Path(worker.__file__).parent
    code = f"import sys; sys.path.insert(0, {str(folder.parent.resolve())!r}); import validators"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "equipoise.validators" in done.stderr


def test_code_in_a_worker_reads_no_input(tmp_path: Path) -> None:
    """Standard input is the protocol's: a library that asks must get no answer, and must not eat a request."""
    file = tmp_path / "functions.py"
    file.write_text(
        "import os, subprocess, sys\n"
        "def ask():\n"
        "    try:\n"
        "        answer = input('run it? ')\n"
        "    except EOFError:\n"
        "        answer = None\n"
        "    inner = subprocess.run([sys.executable, '-c', 'import sys; print(sys.stdin.read())'],\n"
        "                           capture_output=True, text=True)\n"
        "    return [answer, os.read(0, 10).decode(), inner.stdout]\n"
    )
    with WorkerProcess(sys.executable) as environment:
        assert environment.call(file, "ask") == [None, "", "\n"]
        assert environment.call(file, "ask") == [None, "", "\n"]


def test_a_process_imports_ahead() -> None:
    with WorkerProcess(sys.executable) as process:
        process.preload(["no_such_package_", "xml.dom.minidom", "transformers"], "NoSuchClass")
        process.preload(["xml.sax"])
        answer, _ = process.request("hello")
        assert answer["versions"]["python"]
        loaded = process.call("sys", "getrecursionlimit")
        assert loaded == sys.getrecursionlimit()


def test_a_pool_starts_a_process_once_and_only_where_there_is_one() -> None:
    with WorkerPool({"onnx": "/no/such/python"}) as pool:
        pool.preload("onnx")
        pool.preload("pytorch")
        first = pool.get("pytorch")
        pool.preload("pytorch", "BertModel")
        assert pool.get("pytorch") is first
        assert pool.hello("pytorch")["versions"]["python"]
        with pytest.raises(EquipoiseError):
            pool.get("onnx")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("ImportError('libx.so: failed to map segment from shared object')", LimitError),
        ("OSError(12, 'Cannot allocate memory')", LimitError),
        ("MemoryError()", LimitError),
        ("ImportError('no such module')", WorkerError),
    ],
)
def test_memory_that_ran_out(error: str, kind: type[WorkerError], tmp_path: Path) -> None:
    """Memory that ends while a library is loaded is told as memory, not as a broken installation."""
    module = tmp_path / "fails.py"
    module.write_text(f"def fail():\n    raise {error}\n")
    with WorkerProcess(sys.executable) as process, pytest.raises(WorkerError) as failure:
        process.call(module, "fail")
    assert type(failure.value) is kind
