"""torch.distributed.checkpoint and DeepSpeed ZeRO: what the frameworks' own readers find in the files that they wrote."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from equipoise.convert import convert, open_checkpoint
from equipoise.convert.checkpoints.opening.open_files import open_container
from equipoise.convert.containers._distributed.tiling import Part, check_tiling, stream_parts
from equipoise.convert.containers.base import Container
from equipoise.convert.core.arrays import Shape
from equipoise.convert.core.errors import CheckpointError, ContainerError, UnsafePickleError
from equipoise.convert.core.tensor import TensorRef
from equipoise.convert.verify import verify
from equipoise.fixtures.synthetic import BERT_CONFIG, expand_class, make_tensors

GOLDEN = Path(__file__).parent / "golden"
DCP = sorted((GOLDEN / "dcp").iterdir())
ZERO = sorted((GOLDEN / "zero").iterdir())
FROZEN = {"frozen.weight", "frozen.bias"}
BERT = "BertForSequenceClassification"


def entry_of(folder: Path) -> Path:
    """Returns the file that stands for a checkpoint."""
    found = sorted(folder.glob("*/*_optim_states.pt"))
    return found[0] if found else folder / ".metadata"


def assert_equal(container: Container, expected: dict[str, Any]) -> None:
    assert expected.keys() <= container.tensors.keys()
    for name, value in expected.items():
        ref = container.tensors[name]
        assert (ref.dtype, ref.shape) == (value.dtype, value.shape), name
        assert ref.read().tobytes() == value.tobytes(), name
        assert b"".join(bytes(block) for block in ref.blocks()) == value.tobytes(), name


@pytest.mark.parametrize("folder", [*DCP, *ZERO], ids=lambda folder: str(folder.name))
def test_tensors_are_those_of_the_framework(folder: Path) -> None:
    """``expected.safetensors`` holds what ``dcp_to_torch_save`` or ``zero_to_fp32`` found."""
    container = open_container(entry_of(folder))
    expected = load_file(folder / "expected.safetensors")
    assert_equal(container, expected)
    beyond = container.tensors.keys() - expected.keys()
    assert beyond == (FROZEN if folder.name.startswith("stage1") else set())
    files = {path.name for path in entry_of(folder).parent.iterdir()}
    assert {path.name for path in (container.path, *container.files)} == files - {
        "expected.safetensors"
    }


def test_frozen_parameters_of_stage_1_are_those_of_the_model() -> None:
    """DeepSpeed's script leaves them out; the file of the model holds them, as torch.load says."""
    import torch

    folder = GOLDEN / "zero" / "stage1_fp32"
    state = torch.load(folder / "global_step2" / "mp_rank_00_model_states.pt", weights_only=False)
    tensors = open_container(entry_of(folder)).tensors
    for name in FROZEN:
        np.testing.assert_array_equal(tensors[name].read(), state["module"][name].numpy())


def test_tied_parameters_are_one() -> None:
    tensors = open_container(entry_of(GOLDEN / "zero" / "stage3_bf16")).tensors
    tied = tensors["output.weight"].identity
    assert tied is not None
    assert tied == tensors["embedding.weight"].identity


def test_weights_are_found_beside_the_optimizer() -> None:
    checkpoint = open_checkpoint(GOLDEN / "dcp" / "fsdp")
    assert checkpoint.prefix == "model."
    assert checkpoint.keys() == {"model.0.weight", "model.0.bias", "model.1.weight"}
    assert checkpoint.left_out["rng"] == "state of a random generator"
    assert checkpoint.left_out["epoch"] == "a value that is no tensor"
    assert "optimizer.state.0.weight.exp_avg" in checkpoint.left_out


def stored_bert(folder: Path, save: Callable[[dict[str, Any], Path], None]) -> dict[str, Any]:
    """Writes a classifier's config, and its weights by a function; returns the weights."""
    import torch

    tensors = make_tensors(expand_class("bert", BERT, BERT_CONFIG))
    folder.mkdir()
    values = {"model_type": "bert", "architectures": [BERT], **BERT_CONFIG}
    (folder / "config.json").write_text(json.dumps(values))
    save({name: torch.from_numpy(value.copy()) for name, value in tensors.items()}, folder)
    return tensors


def save_dcp(state: dict[str, Any], folder: Path) -> None:
    import torch.distributed.checkpoint as dcp

    dcp.save(
        {"model": state, "step": 7}, checkpoint_id=folder / "pytorch_model_fsdp_0", no_dist=True
    )


@pytest.mark.filterwarnings("ignore")
def test_a_model_converts_there_and_verifies(cli: Callable[..., Any], tmp_path: Path) -> None:
    source = tmp_path / "source"
    tensors = stored_bert(source, save_dcp)
    manifest = convert(source, tmp_path / "flax", to="flax")
    assert set(manifest.values["source"]["files"]) == {".metadata", "__0_0.distcp"}
    assert verify(tmp_path / "flax", source=source).findings == ()
    convert(tmp_path / "flax", tmp_path / "back", to="pytorch")
    found = load_file(tmp_path / "back" / "model.safetensors")
    assert found.keys() == tensors.keys()
    assert all(np.array_equal(found[name], value) for name, value in tensors.items())
    assert cli("diff", source, tmp_path / "back").code == 0
    outcome = cli("inspect", source)
    assert outcome.code == 0
    assert "BertForSequenceClassification" in outcome.out


def save_zero(state: dict[str, Any], folder: Path) -> None:
    """Writes stage 2 for three processes, in the format of the goldens."""
    import torch

    flat = torch.cat([one.float().flatten() for one in state.values()])
    flat = torch.cat([flat, torch.zeros(-len(flat) % 6)])
    place = folder / "global_step9"
    place.mkdir()
    (folder / "latest").write_text("global_step9\n")
    shapes = [{name: one.shape for name, one in state.items()}]
    model = {"module": {}, "buffer_names": [], "param_shapes": shapes, "shared_params": {}}
    torch.save(model, place / "mp_rank_00_model_states.pt")
    for rank, share in enumerate(flat.chunk(3)):
        optimizer = {
            "zero_stage": 2,
            "partition_count": 3,
            "single_partition_of_fp32_groups": [share.clone()],
        }
        path = place / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"
        torch.save({"optimizer_state_dict": optimizer}, path)


def test_a_model_of_deepspeed_converts(cli: Callable[..., Any], tmp_path: Path) -> None:
    source = tmp_path / "source"
    tensors = stored_bert(source, save_zero)
    convert(source, tmp_path / "made", to="tensorflow")
    assert verify(tmp_path / "made", source=source).findings == ()
    found = {name: ref.read() for name, ref in open_checkpoint(source).items()}
    assert all(np.array_equal(found[name], value) for name, value in tensors.items())
    (source / "latest").write_text("global_step10")
    outcome = cli("convert", source, tmp_path / "other", "--to", "flax")
    assert outcome.code == 2
    assert "the file `latest` names a folder without the states" in outcome.err
    assert not (tmp_path / "other").exists()


@pytest.fixture
def dcp(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / "dcp" / "grid", tmp_path / "dcp"))


@pytest.fixture
def zero(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / "zero" / "stage3_bf16", tmp_path / "zero"))


def test_a_missing_file_of_a_process_is_named(dcp: Path) -> None:
    (dcp / "__1_0.distcp").unlink()
    with pytest.raises(CheckpointError, match=r"(?s)'__1_0.distcp' is missing.*whole folder"):
        open_checkpoint(dcp)


def test_missing_metadata_is_named(dcp: Path) -> None:
    (dcp / ".metadata").unlink()
    (dcp / "expected.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"(?s)\.metadata.*hidden files"):
        open_checkpoint(dcp)


def test_a_truncated_file_is_named(dcp: Path) -> None:
    path = dcp / "__0_0.distcp"
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ContainerError, match=r"__0_0.distcp, tensor '.*': the file ends before"):
        open_container(dcp / ".metadata")


def test_a_link_out_of_the_folder_is_refused(dcp: Path, tmp_path: Path) -> None:
    path = dcp / "__0_0.distcp"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="leads out of the folder"):
        open_container(dcp / ".metadata")


def test_a_record_of_another_tensor_is_refused(dcp: Path) -> None:
    """Files of two ranks that are swapped hold records of other shapes, or none at these places."""
    first, second = dcp / "__0_0.distcp", dcp / "__3_0.distcp"
    contents = second.read_bytes().ljust(first.stat().st_size, b"\0"), first.read_bytes()
    first.write_bytes(contents[0])
    second.write_bytes(contents[1])
    tensors = open_container(dcp / ".metadata").tensors
    with pytest.raises(ContainerError, match=r"(__0_0|__3_0).distcp"):
        tensors["rows"].read()


def test_metadata_runs_nothing(dcp: Path, tmp_path: Path) -> None:
    class Call:
        def __reduce__(self) -> Any:
            return exec, (f"open({str(tmp_path / 'marker')!r}, 'w')",)

    head = b"torch.distributed.checkpoint.metadata"
    (dcp / ".metadata").write_bytes(pickle.dumps({head: Call()}))
    with pytest.raises(UnsafePickleError, match=r"builtins\.exec"):
        open_container(dcp / ".metadata")
    assert not (tmp_path / "marker").exists()


class OutOfFolder:
    """Replaces the name of a file in metadata by one of the same length that leads elsewhere."""

    OLD, NEW = b"__1_0.distcp", b"../a0.distcp"


def test_metadata_names_no_file_elsewhere(dcp: Path, tmp_path: Path) -> None:
    metadata = dcp / ".metadata"
    metadata.write_bytes(metadata.read_bytes().replace(OutOfFolder.OLD, OutOfFolder.NEW))
    (dcp / "__1_0.distcp").rename(tmp_path / "a0.distcp")
    with pytest.raises(CheckpointError, match="names a file outside its folder"):
        open_container(metadata)


def test_several_checkpoints_are_listed(tmp_path: Path) -> None:
    for step in ("step-100", "step-200"):
        shutil.copytree(GOLDEN / "dcp" / "grid", tmp_path / step)
    with pytest.raises(CheckpointError, match=r"(?s)2 checkpoints of torch.*step-100, step-200"):
        open_checkpoint(tmp_path)


def test_the_optimizers_own_checkpoint_is_passed_over(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "dcp" / "grid", tmp_path / "pytorch_model_fsdp_0")
    shutil.copytree(GOLDEN / "dcp" / "fsdp", tmp_path / "optimizer_0")
    checkpoint = open_checkpoint(tmp_path)
    assert "grid" in checkpoint
    assert "the folder pytorch_model_fsdp_0 was read" in checkpoint.oddities


@pytest.mark.parametrize("ending", ["optim_states.pt", "model_states.pt"])
def test_a_missing_state_is_counted(ending: str, zero: Path) -> None:
    next(zero.glob(f"*/*rank_1*{ending}")).unlink()
    with pytest.raises(CheckpointError, match=r"(?s)expected: 2 \*_.*found:    1"):
        open_checkpoint(zero)


def test_states_of_two_trainings_are_refused(zero: Path) -> None:
    """The states of the optimizer are of stage 3 with other groups than the shapes say."""
    other = GOLDEN / "zero" / "stage3_groups" / "global_step2"
    for rank in (0, 1):
        path = next(zero.glob(f"*/*rank_{rank}*_optim_states.pt"))
        shutil.copyfile(next(other.glob(f"*rank_{rank}*_optim_states.pt")), path)
    with pytest.raises(CheckpointError, match=r"(?s)expected: 3.*found:    2"):
        open_checkpoint(zero)


def test_a_class_of_another_package_is_refused(zero: Path) -> None:
    path = next(zero.glob("*/*_optim_states.pt"))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02cposix\nsystem\n(X\x02\0\0\0lstR.")
    with pytest.raises(UnsafePickleError, match="nothing was executed"):
        open_checkpoint(zero)


@pytest.mark.parametrize(
    ("name", "found"),
    [("mp_rank_01_model_states.pt", "2 mp_ranks"), ("layer_00-model_states.pt", "layer_00")],
)
def test_a_model_split_over_processes_is_refused(name: str, found: str, zero: Path) -> None:
    (zero / "global_step2" / name).write_bytes(b"")
    with pytest.raises(CheckpointError, match=f"(?s)split over processes.*{found}"):
        open_checkpoint(zero)


def test_several_deepspeed_checkpoints_are_listed(tmp_path: Path) -> None:
    for step in (1, 20):
        shutil.copytree(
            GOLDEN / "zero" / "stage2_bf16" / "global_step2", tmp_path / f"global_step{step}"
        )
    with pytest.raises(CheckpointError, match="2 DeepSpeed checkpoints"):
        open_checkpoint(tmp_path)


def cuts(size: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, size), max_size=3).map(lambda inner: sorted({0, size, *inner}))


@given(st.data(), st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple))
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_any_grid_of_parts_is_put_together(data: st.DataObject, shape: Shape) -> None:
    array = np.arange(int(np.prod(shape)), dtype=np.int32).reshape(shape)
    edges = [data.draw(cuts(size)) for size in shape]
    parts = data.draw(st.permutations(list(boxes(edges))))
    check_tiling("a", shape, parts)
    refs = [(part, ref_of(array, part)) for part in parts]
    assert b"".join(map(bytes, stream_parts(shape, array.dtype, refs))) == array.tobytes()
    if len(parts) > 1:
        with pytest.raises(ContainerError, match="missing"):
            check_tiling("a", shape, parts[1:])
        with pytest.raises(ContainerError, match=r"overlap|missing|beyond"):
            check_tiling("a", shape, [*parts[1:], parts[1]])


def boxes(edges: list[list[int]]) -> Iterator[Part]:
    spans = [list(pairwise(one)) for one in edges]
    for index in np.ndindex(*map(len, spans)):
        chosen = [one[i] for one, i in zip(spans, index, strict=True)]
        yield Part(tuple(a for a, _ in chosen), tuple(b - a for a, b in chosen))


def ref_of(array: Any, part: Part) -> TensorRef:
    box = tuple(slice(a, a + n) for a, n in zip(part.offsets, part.sizes, strict=True))
    values = np.array(array[box], order="C")
    return TensorRef("a", values.dtype, values.shape, Path("a"), load=lambda: values)


def test_an_irregular_tiling_is_put_together() -> None:
    """A pinwheel: no cut goes through from side to side."""
    parts = [Part((0, 0), (1, 2)), Part((0, 2), (2, 1)), Part((2, 1), (1, 2)), Part((1, 0), (2, 1))]
    parts.append(Part((1, 1), (1, 1)))
    array = np.arange(9, dtype=np.float32).reshape(3, 3)
    check_tiling("a", (3, 3), parts)
    refs = [(part, ref_of(array, part)) for part in parts]
    assert b"".join(map(bytes, stream_parts((3, 3), array.dtype, refs))) == array.tobytes()
    with pytest.raises(ContainerError, match="overlap"):
        check_tiling("a", (3, 3), [*parts[:-1], Part((0, 0), (1, 1))])
