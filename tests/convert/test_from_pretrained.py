"""Loading TensorFlow's and Flax's checkpoints into PyTorch models: every family, container and argument."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from equipoise.convert import convert, from_pretrained, open_checkpoint
from equipoise.convert.architectures.spec import load_spec
from equipoise.convert.core.errors import CheckpointError, ContainerError, InputError
from equipoise.fixtures import models
from equipoise.fixtures.inputs import make_inputs

pytestmark = pytest.mark.transformers

CLASSES = {
    "albert": ("odd", "AlbertForMaskedLM"),
    "bart": ("odd", "BartForConditionalGeneration"),
    "bert": ("odd", "BertForPreTraining"),
    "camembert": ("odd", "CamembertForTokenClassification"),
    "clip": ("odd", "CLIPModel"),
    "distilbert": ("odd", "DistilBertForQuestionAnswering"),
    "electra": ("odd", "ElectraForSequenceClassification"),
    "gpt2": ("odd", "GPT2LMHeadModel"),
    "marian": ("odd", "MarianMTModel"),
    "resnet": ("odd", "ResNetForImageClassification"),
    "roberta": ("odd", "RobertaForMaskedLM"),
    "t5": ("gated", "T5ForConditionalGeneration"),
    "vit": ("odd", "ViTForImageClassification"),
    "wav2vec2": ("stable", "Wav2Vec2ForCTC"),
    "whisper": ("odd", "WhisperForConditionalGeneration"),
    "xlm-roberta": ("odd", "XLMRobertaForMultipleChoice"),
}
FORMATS = ("tensorflow-h5", "tensorflow-safetensors", "flax-msgpack", "flax-safetensors")
BERT = "BertForSequenceClassification"

Folder = Callable[..., Path]


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Folders with a fixture's model, by its name and the format; PyTorch's is saved by transformers."""
    root = tmp_path_factory.mktemp("saved")

    def make(family: str, config: str, class_name: str, form: str = "pytorch", **how: Any) -> Path:
        own = root / f"{family}-{config}-{class_name}"
        if not own.exists():
            models.save(family, config, class_name, str(own))
        target = root / f"{own.name}-{form}-{'-'.join(map(str, how.values()))}"
        if form != "pytorch" and not target.exists():
            convert(own, target, to=form, **how)
        return own if form == "pytorch" else target

    return make


@pytest.fixture
def bert(saved: Folder) -> Folder:
    def make(form: str = "pytorch", cls: str = BERT, **how: Any) -> Path:
        return saved("bert", "odd", cls, form, **how)

    return make


def class_of(name: str) -> Any:
    import transformers

    return getattr(transformers, name)


def assert_same(found: Any, expected: Any) -> None:
    """Asserts equal names, dtypes, bits and ties."""
    import torch

    assert type(found) is type(expected)
    assert not found.training
    first, second = found.state_dict(), expected.state_dict()
    assert list(first) == list(second)
    for name, tensor in second.items():
        assert first[name].dtype == tensor.dtype, name
        assert torch.equal(first[name], tensor), name
        assert first[name].is_contiguous() == tensor.is_contiguous(), name
    assert addresses(found) == addresses(expected)
    assert [p.requires_grad for p in found.parameters()] == [
        p.requires_grad for p in expected.parameters()
    ]


def addresses(model: Any) -> list[list[str]]:
    """Returns which names share a tensor."""
    groups: dict[int, list[str]] = {}
    for name, tensor in model.named_parameters(remove_duplicate=False):
        groups.setdefault(id(tensor), []).append(name)
    return sorted(groups.values())


def outputs(model: Any, family: str, extra: tuple[str, ...] = ()) -> list[Any]:
    import torch

    given = make_inputs(
        models.input_kind(family), model.config.to_dict(), type(model).__name__, extra
    )
    tensors = {name: torch.from_numpy(np.asarray(value)) for name, value in given.items()}
    # A kernel may add in another order where memory is aligned otherwise, as that of a mapped file is.
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    with torch.no_grad():
        result = model(**tensors, return_dict=True)
    return [value for value in result.values() if isinstance(value, torch.Tensor)]


def cases() -> list[tuple[str, str]]:
    """Yields each family in each format of its class and config."""
    made = []
    for family, (config, name) in CLASSES.items():
        spec = load_spec(family)
        found = spec.class_by_name(name) if spec else None
        forms = models.about(family, config).get("formats", {})
        for form in FORMATS if found else ():
            layout = form.split("-")[0]
            if layout in found.names and forms.get(layout, form) == form:
                made.append((family, form))
    return made


@pytest.mark.parametrize(("family", "form"), cases())
def test_every_family(family: str, form: str, saved: Folder) -> None:
    import torch

    config, name = CLASSES[family]
    cls = class_of(name)
    expected = cls.from_pretrained(saved(family, config, name))
    found, info = from_pretrained(cls, saved(family, config, name, form), output_loading_info=True)
    assert not any(info.values())
    assert_same(found, expected)
    if expected.can_generate():
        assert found.generation_config.to_dict() == expected.generation_config.to_dict()
    for mine, theirs in zip(outputs(found, family), outputs(expected, family), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("form", ["tensorflow-safetensors", "flax-safetensors"])
def test_from_tf_and_from_flax(form: str, bert: Folder) -> None:
    """transformers 5 alone leaves the model randomly initialised; from_pretrained loads the weights."""
    import torch
    import transformers

    folder = bert(form)
    cls = class_of(BERT)
    expected = cls.from_pretrained(bert())
    if int(transformers.__version__.split(".")[0]) >= 5:
        alone = [cls.from_pretrained(folder).state_dict() for _ in range(2)]
        name = "bert.encoder.layer.1.attention.self.query.weight"
        assert not torch.equal(alone[0][name], alone[1][name])
        assert not torch.equal(alone[0][name], expected.state_dict()[name])
    assert_same(from_pretrained(cls, folder), expected)


@pytest.mark.parametrize("form", FORMATS)
def test_shards(form: str, bert: Folder) -> None:
    folder = bert(form, max_shard_size=20_000)
    assert len(list(folder.glob("*-of-*"))) > 1
    assert_same(from_pretrained(class_of(BERT), folder), class_of(BERT).from_pretrained(bert()))


@pytest.mark.parametrize("form", ["tensorflow-h5", "flax-msgpack", "pytorch-bin"])
def test_file(form: str, bert: Folder, tmp_path: Path) -> None:
    """A single file with a separate config."""
    file = shutil.copy(open_checkpoint(bert(form)).files[0], tmp_path)
    expected = class_of(BERT).from_pretrained(bert())
    for config in (str(bert()), bert() / "config.json", expected.config):
        found = from_pretrained(class_of(BERT), file, config=config)
        assert_same(found, expected)
    assert found.config.name_or_path == str(file)


def test_pytorch_weights_are_loaded_by_transformers(bert: Folder) -> None:
    class Recorder:
        @classmethod
        def from_pretrained(cls, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
            return args, kwargs

    args, kwargs = from_pretrained(Recorder, bert(), 1, num_labels=3)
    assert args == (str(bert()), 1)
    assert kwargs == {"config": None, "num_labels": 3, "trust_remote_code": False}


def test_chosen_framework(bert: Folder, tmp_path: Path) -> None:
    """Each flag selects its framework's weights in a folder with several."""
    for form in ("pytorch", "tensorflow-h5", "flax-safetensors"):
        for file in bert(form).iterdir():
            name = "flax.safetensors" if form == "flax-safetensors" else file.name
            if file.name != "model.safetensors" or form == "pytorch":
                shutil.copy(file, tmp_path / name)
    cls = class_of(BERT)
    with pytest.raises(CheckpointError, match="no weights of the layout 'flax'"):
        from_pretrained(cls, tmp_path, from_flax=True)
    assert_same(from_pretrained(cls, tmp_path, from_tf=True), cls.from_pretrained(bert()))
    (tmp_path / "tf_model.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    from_pretrained(cls, tmp_path)
    with pytest.raises(ContainerError):
        from_pretrained(cls, tmp_path, from_tf=True)


@pytest.mark.parametrize(
    ("form", "flags", "text"),
    [
        ("flax-msgpack", {"from_tf": True}, "no weights of the layout 'tensorflow'"),
        ("pytorch", {"from_flax": True}, "no weights of the layout 'flax'"),
        ("pytorch", {"from_flax": True, "from_tf": True}, "exclude each other"),
    ],
)
def test_missing_files(form: str, flags: dict[str, bool], text: str, bert: Folder) -> None:
    with pytest.raises(InputError, match=text):
        from_pretrained(class_of(BERT), bert(form), **flags)


def test_location(bert: Folder, tmp_path: Path) -> None:
    """A subfolder is part of the path; a revision is ignored for local files."""
    shutil.copytree(bert("flax-msgpack"), tmp_path / "inner")
    found = from_pretrained(class_of(BERT), tmp_path, subfolder="inner", revision="main")
    assert_same(found, class_of(BERT).from_pretrained(bert()))
    with pytest.raises(CheckpointError, match="no such file or folder"):
        from_pretrained(class_of(BERT), tmp_path / "elsewhere", from_tf=True)


def test_file_of_another_framework(bert: Folder) -> None:
    with pytest.raises(CheckpointError, match="not weights of tensorflow"):
        from_pretrained(class_of(BERT), bert("flax-msgpack") / "flax_model.msgpack", from_tf=True)


@pytest.mark.parametrize("form", ["tensorflow-h5", "flax-msgpack"])
@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_dtype(form: str, key: str, bert: Folder) -> None:
    import torch

    cls = class_of(BERT)
    for dtype in (torch.bfloat16, torch.float16, "float64", "auto"):
        found = from_pretrained(cls, bert(form), **{key: dtype})
        assert_same(found, cls.from_pretrained(bert(), **{key: dtype}))
    stored = bert("flax-msgpack", dtype="bf16")
    assert from_pretrained(cls, stored, dtype="auto").dtype == torch.bfloat16
    config = json.loads((stored / "config.json").read_text())
    assert "bfloat16" in (config.get("dtype"), config.get("torch_dtype"))


@pytest.mark.parametrize("form", ["tensorflow-h5", "flax-msgpack"])
def test_other_classes(form: str, bert: Folder) -> None:
    """A requested class that differs from the checkpoint's is handled as for PyTorch's weights."""
    cases = [
        ("AutoModel", BERT),
        ("BertModel", "BertForPreTraining"),
        ("AutoModelForSequenceClassification", "BertModel"),
        ("AutoModelForMaskedLM", "BertForPreTraining"),
        ("BertForTokenClassification", BERT),
    ]
    for requested, stored in cases:
        cls = class_of(requested)
        expected, theirs = cls.from_pretrained(bert(cls=stored), output_loading_info=True)
        found, info = from_pretrained(cls, bert(form, cls=stored), output_loading_info=True)
        assert info == theirs
        assert type(found) is type(expected)
        new = set(info["missing_keys"])
        for name, tensor in expected.state_dict().items():
            assert name in new or bool((found.state_dict()[name] == tensor).all()), name


def test_mismatched_sizes(bert: Folder) -> None:
    cls, how = class_of(BERT), {"num_labels": 3, "ignore_mismatched_sizes": True}
    _, theirs = cls.from_pretrained(bert(), output_loading_info=True, **how)
    for form in ("tensorflow-h5", "flax-msgpack"):
        found, info = from_pretrained(cls, bert(form), output_loading_info=True, **how)
        assert found.config.num_labels == found.classifier.out_features == 3
        assert sorted(info["mismatched_keys"]) == sorted(theirs["mismatched_keys"]) != []
        with pytest.raises(RuntimeError):
            from_pretrained(cls, bert(form), num_labels=3)


def test_missing_and_unexpected(bert: Folder, tmp_path: Path) -> None:
    """transformers reports missing and unexpected tensors."""
    import msgpack

    shutil.copytree(bert("flax-msgpack"), tmp_path, dirs_exist_ok=True)
    file = tmp_path / "flax_model.msgpack"
    tree = msgpack.unpackb(file.read_bytes())
    tree["extra"] = {"kernel": tree["classifier"].pop("kernel")}
    file.write_bytes(msgpack.packb(tree))
    found, info = from_pretrained(class_of(BERT), tmp_path, output_loading_info=True)
    assert list(info["missing_keys"]) == ["classifier.weight"]
    assert list(info["unexpected_keys"]) == ["extra/kernel"]
    assert bool(
        (found.classifier.bias == class_of(BERT).from_pretrained(bert()).classifier.bias).all()
    )


def test_arguments_for_config_and_model(bert: Folder) -> None:
    found = from_pretrained(
        class_of("AutoModel"),
        bert("tensorflow-h5"),
        add_pooling_layer=False,
        hidden_dropout_prob=0.5,
    )
    assert found.pooler is None
    assert found.config.hidden_dropout_prob == 0.5


def test_generation_config_inside_the_model_config(saved: Folder, tmp_path: Path) -> None:
    """Old folders have no generation config; transformers then reads the model's."""
    for form in ("pytorch", "tensorflow-h5"):
        folder = tmp_path / form
        shutil.copytree(saved("bart", "odd", "BartForConditionalGeneration", form), folder)
        (folder / "generation_config.json").unlink()
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "num_beams": 7}))
    cls = class_of("BartForConditionalGeneration")
    expected = cls.from_pretrained(tmp_path / "pytorch").generation_config
    found = from_pretrained(cls, tmp_path / "tensorflow-h5").generation_config
    assert found.num_beams == 7
    assert found.to_dict() == expected.to_dict()
