"""Folders as research repositories leave them: variables, the repository's own config, a vocabulary, and nothing else."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from equipoise.convert import convert, open_checkpoint
from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.expand import expand
from equipoise.convert.architectures.spec import ArchitectureSpec, load_spec
from equipoise.convert.core.errors import ArchitectureError, CheckpointError, CoverageError
from equipoise.convert.diff import compare_checkpoints
from equipoise.convert.from_pretrained import from_pretrained
from equipoise.convert.layouts.google import view
from equipoise.convert.research.marks import known_specs
from equipoise.convert.research.repository_config import read_gin, translate
from equipoise.convert.verify import verify
from equipoise.fixtures.bundles import encode_entry, write_bundle
from equipoise.fixtures.synthetic import BERT_CONFIG, write_checkpoint

Shapes = Mapping[str, tuple[int, ...]]

WIDTH, INNER, TOKENS = 8, 12, 19
CONFIG = {
    "vocab_size": TOKENS, "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": INNER,
    "max_position_embeddings": 11, "type_vocab_size": 2, "hidden_act": "gelu", "initializer_range": 0.02,
}  # fmt: skip


def dense(scope: str, inputs: int, outputs: int) -> Shapes:
    return {f"{scope}/kernel": (inputs, outputs), f"{scope}/bias": (outputs,)}


def norm(scope: str) -> Shapes:
    return {f"{scope}/gamma": (WIDTH,), f"{scope}/beta": (WIDTH,)}


def body(layers: int = 2) -> Shapes:
    """Returns the variables of BERT as its repository names them."""
    found = {
        "bert/embeddings/word_embeddings": (TOKENS, WIDTH),
        "bert/embeddings/position_embeddings": (11, WIDTH),
        "bert/embeddings/token_type_embeddings": (2, WIDTH),
        **norm("bert/embeddings/LayerNorm"),
        **dense("bert/pooler/dense", WIDTH, WIDTH),
    }
    for layer in range(layers):
        scope = f"bert/encoder/layer_{layer}"
        for part in ("query", "key", "value"):
            found |= dense(f"{scope}/attention/self/{part}", WIDTH, WIDTH)
        found |= dense(f"{scope}/attention/output/dense", WIDTH, WIDTH)
        found |= norm(f"{scope}/attention/output/LayerNorm")
        found |= dense(f"{scope}/intermediate/dense", WIDTH, INNER)
        found |= dense(f"{scope}/output/dense", INNER, WIDTH)
        found |= norm(f"{scope}/output/LayerNorm")
    return found


def head(count: int, scope: str = "") -> Shapes:
    return {f"{scope}output_weights": (count, WIDTH), f"{scope}output_bias": (count,)}


def write(
    folder: Path, shapes: Shapes, config: str = "bert_config.json", **settings: object
) -> Path:
    """Writes a checkpoint of random values in a new folder, with its config."""
    folder.mkdir()
    entries, data = {}, b""
    generator = np.random.default_rng(0)
    for name, shape in sorted(shapes.items()):
        value = generator.standard_normal(shape, np.float32).tobytes()
        entries[name.encode()] = encode_entry(shape, len(value), offset=len(data))
        data += value
    write_bundle(folder / "bert_model.ckpt.index", entries, data)
    (folder / "bert_model.ckpt.data-00000-of-00001").write_bytes(data)
    (folder / "bert_model.data-00000-of-00001").unlink(missing_ok=True)
    if config:
        (folder / config).write_text(json.dumps({**CONFIG, **settings}))
    return folder


def config_of(folder: Path) -> dict[str, object]:
    values: dict[str, object] = json.loads((folder / "config.json").read_text())
    return values


@pytest.mark.parametrize(
    ("shapes", "name", "head_name", "rows"),
    [
        (head(3), "BertForSequenceClassification", "classifier.weight", 3),
        (head(2, "cls/squad/"), "BertForQuestionAnswering", "qa_outputs.weight", 2),
        (head(2, "cls/seq_relationship/"), "BertForNextSentencePrediction", "cls.seq_relationship.weight", 2),
        ({}, "BertModel", "embeddings.word_embeddings.weight", TOKENS),
    ],
    ids=["classifier", "squad", "next sentence", "body"],
)  # fmt: skip
def test_the_class_is_found_from_the_names(
    shapes: Shapes, name: str, head_name: str, rows: int, tmp_path: Path
) -> None:
    source = write(tmp_path / "source", {**body(), **shapes})
    convert(source, tmp_path / "out", to="pytorch")
    values = config_of(tmp_path / "out")
    assert values["model_type"] == "bert"
    assert values["architectures"] == [name]
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    assert tensors[head_name].shape == (rows, WIDTH)
    own = open_checkpoint(source)
    start = "" if name == "BertModel" else "bert."
    for part in ("query", "value"):
        found = tensors[f"{start}encoder.layer.1.attention.self.{part}.weight"]
        stored = own[f"bert/encoder/layer_1/attention/self/{part}/kernel"].read()
        np.testing.assert_array_equal(found, stored.T)


@pytest.mark.parametrize("to", ["tensorflow", "flax", "google"])
def test_the_way_there_and_back(to: str, tmp_path: Path) -> None:
    source = write(tmp_path / "source", {**body(), **head(3)})
    convert(source, tmp_path / "there", to=to)
    convert(tmp_path / "there", tmp_path / "back", to="google")
    own = {name: ref.read() for name, ref in open_checkpoint(source).items()}
    written = open_checkpoint(tmp_path / "back")
    assert (written.layout, written.files[0].name) == ("google", "model.ckpt.index")
    back = {name: ref.read() for name, ref in written.items()}
    assert back.keys() == own.keys()
    for name, value in own.items():
        np.testing.assert_array_equal(back[name], value)
    assert not verify(tmp_path / "back", source=tmp_path / "there").findings
    convert(tmp_path / "there", tmp_path / "other", to="google-safetensors")
    assert load_file(tmp_path / "other" / "model.safetensors").keys() == own.keys()
    found = compare_checkpoints(open_checkpoint(source), open_checkpoint(tmp_path / "there"))
    assert found.same


def test_what_googles_code_does_not_have_is_refused(tmp_path: Path) -> None:
    untied = {**BERT_CONFIG, "tie_word_embeddings": False}
    source = write_checkpoint(tmp_path / "untied", "bert", "BertForMaskedLM", untied)
    with pytest.raises(CoverageError, match="Google's code always ties the head"):
        convert(source, tmp_path / "out", to="google")
    crossed = {**BERT_CONFIG, "add_cross_attention": True, "is_decoder": True}
    source = write_checkpoint(tmp_path / "crossed", "bert", "BertModel", crossed)
    with pytest.raises(CoverageError, match="Google's code has no cross attention"):
        convert(source, tmp_path / "out", to="google")
    source = write_checkpoint(tmp_path / "vit", "vit", "ViTModel", {"num_hidden_layers": 1})
    with pytest.raises(CoverageError, match="ViTModel has no class in google"):
        convert(source, tmp_path / "out", to="google")


@pytest.mark.parametrize("spec", known_specs(), ids=lambda spec: spec.model_type)
def test_a_head_that_google_s_code_ties_cannot_be_untied(spec: ArchitectureSpec) -> None:
    tied = spec.layouts["google"].get("shared", {})
    config = Config({"tie_word_embeddings": False})
    expansions = [expand(spec, cls, config) for cls in spec.classes_of("google")]
    views = [view(one) for one in expansions]
    refused = {
        one.parameters[name].template
        for one, found in zip(expansions, views, strict=True)
        for name in found.refused
    }
    assert set(tied) <= refused
    parameters = {
        p.name for one in expansions for p in one.parameters.values() if p.template in tied
    }
    assert not parameters & {
        name for found in views for rule in found.rules for name in rule.sources
    }


@pytest.mark.parametrize(
    ("tokens", "lower"),
    [
        (["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "word", "##s"], True),
        (["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "Word", "##s"], False),
    ],
)
def test_the_output_loads_with_auto_classes(tokens: list[str], lower: bool, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    source = write(tmp_path / "source", body())
    rest = [f"t{i}" for i in range(TOKENS - len(tokens))]
    (source / "vocab.txt").write_text("\n".join([*tokens, *rest]) + "\n")
    convert(source, tmp_path / "out", to="pytorch")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.tokenize("Words") == (["word", "##s"] if lower else ["Word", "##s"])
    assert tokenizer.model_max_length == 11
    model, about = transformers.AutoModel.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert type(model).__name__ == "BertModel"
    assert not about["missing_keys"]
    assert not about["unexpected_keys"]


def test_files_get_the_names_that_transformers_looks_for(tmp_path: Path) -> None:
    scope = "bert/encoder/transformer/group_0/inner_group_0"
    shapes = {
        "bert/embeddings/word_embeddings": (TOKENS, WIDTH),
        "bert/embeddings/position_embeddings": (11, WIDTH),
        "bert/embeddings/token_type_embeddings": (2, WIDTH),
        **norm("bert/embeddings/LayerNorm"),
        **dense("bert/encoder/embedding_hidden_mapping_in", WIDTH, WIDTH),
        **dense("bert/pooler/dense", WIDTH, WIDTH),
        **{k: v for p in ("query", "key", "value") for k, v in dense(f"{scope}/attention_1/self/{p}", WIDTH, WIDTH).items()},
        **dense(f"{scope}/attention_1/output/dense", WIDTH, WIDTH),
        **norm(f"{scope}/LayerNorm"),
        **norm(f"{scope}/LayerNorm_1"),
        **dense(f"{scope}/ffn_1/intermediate/dense", WIDTH, INNER),
        **dense(f"{scope}/ffn_1/intermediate/output/dense", INNER, WIDTH),
    }  # fmt: skip
    source = write(tmp_path / "source", shapes, "albert_config.json", embedding_size=WIDTH)
    (source / "30k-clean.model").write_bytes(b"pieces")
    (source / "30k-clean.vocab").write_text("<pad>\t0\n")
    convert(source, tmp_path / "out", to="pytorch")
    assert (tmp_path / "out" / "spiece.model").read_bytes() == b"pieces"
    assert not (tmp_path / "out" / "30k-clean.model").exists()
    assert config_of(tmp_path / "out")["architectures"] == ["AlbertModel"]


def test_a_module_of_tensorflow_hub(tmp_path: Path) -> None:
    shapes = {f"module/{name}": shape for name, shape in body().items()}
    source = write(tmp_path / "source", shapes)
    convert(source, tmp_path / "out", to="pytorch")
    assert config_of(tmp_path / "out")["architectures"] == ["BertModel"]


def test_one_s_own_head_is_left_out_by_allow(tmp_path: Path) -> None:
    source = write(tmp_path / "source", {**body(), **dense("my_head", WIDTH, 4)})
    with pytest.raises(CoverageError, match="my_head/bias"):
        convert(source, tmp_path / "out", to="pytorch")
    assert not (tmp_path / "out").exists()
    convert(source, tmp_path / "out", to="pytorch", allow={"my_head/*": "not needed"})
    assert config_of(tmp_path / "out")["model_type"] == "bert"


OWN = """
model_type = "mine"
name = "Mine"
[defaults]
width = 8
[repeat]
layer = "depth"
[modules.body]
"net.{layer}.dense" = "linear(width, width)"
"head" = "linear(width, 3)"
[classes]
Model = { groups = ["body"], tensorflow = false, flax = false }
[google]
classes = ["Model"]
marks = ["tower/step_{layer}/dense/kernel"]
config = { depth = "n_steps" }
paths = { "net.{layer}" = "tower/step_{layer}" }
leaves = { "head.weight" = "out_w", "head.bias" = "out_b" }
ops = { "head.weight" = [] }
"""


def test_an_architecture_file_of_one_s_own(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(OWN)
    shapes = {
        **dense("tower/step_0/dense", WIDTH, WIDTH),
        **dense("tower/step_1/dense", WIDTH, WIDTH),
        "head/out_w": (3, WIDTH),
        "head/out_b": (3,),
    }
    source = write(tmp_path / "source", shapes, "config.json", n_steps=2)
    own = str(tmp_path / "mine.toml")
    convert(source, tmp_path / "out", to="pytorch", architecture=own)
    found = load_file(tmp_path / "out" / "model.safetensors")
    stored = open_checkpoint(source)
    np.testing.assert_array_equal(
        found["net.1.dense.weight"], stored["tower/step_1/dense/kernel"].read().T
    )
    np.testing.assert_array_equal(found["head.weight"], stored["head/out_w"].read())
    convert(tmp_path / "out", tmp_path / "back", to="google", architecture=own)
    assert open_checkpoint(tmp_path / "back").keys() == stored.keys()


def test_names_without_a_google_layout_are_told_in_one_line(tmp_path: Path) -> None:
    source = write(tmp_path / "source", body(), "config.json", model_type="vit")
    with pytest.raises(ArchitectureError) as caught:
        convert(source, tmp_path / "out", to="pytorch")
    assert "names of Google's code for bert" in str(caught.value)
    assert "the config says vit" in str(caught.value)
    source = write(
        tmp_path / "unknown", {"net/layer_0/kernel": (3, 4)}, "config.json", model_type="bert"
    )
    with pytest.raises(ArchitectureError) as caught:
        convert(source, tmp_path / "out", to="pytorch")
    assert "none of the tensors belongs to the architecture 'bert'" in str(caught.value)


def test_a_checkpoint_without_a_config_says_so(tmp_path: Path) -> None:
    source = write(tmp_path / "source", body(), "")
    with pytest.raises(ArchitectureError, match=r"no config.json") as caught:
        convert(source, tmp_path / "out", to="pytorch")
    assert "bert_config.json" in str(caught.value)


GIN = """
# Macros:
d_model = 512
num_layers = 6
rate = 1e-3
big = \\
    7
decoder/DenseReluDense.activation = ('gelu', 'linear')
decoder/DenseReluDense.hidden_size = %d_ff
run.optimizer = @AdafactorOptimizer
x.y.z = None
d_model.inside = 3
"""


def test_gin_files(tmp_path: Path) -> None:
    path = tmp_path / "operative_config.gin"
    path.write_text(GIN)
    values = read_gin(path).values
    assert values == {
        "d_model": 512,
        "num_layers": 6,
        "rate": 1e-3,
        "big": 7,
    }
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match="a gin file is text"):
        read_gin(path)


def test_a_repository_s_config_in_transformers_terms() -> None:
    spec = load_spec("funnel")
    assert spec is not None
    config = Config({"block_size": "6_3x2_3", "decoder_size": "3", "dropatt": 0.25})
    found = translate(config, spec, {}).values
    assert found["block_sizes"] == [6, 3, 3]
    assert found["block_repeats"] == [1, 2, 1]
    assert found["num_decoder_layers"] == 3
    assert found["attention_dropout"] == 0.25
    assert "hidden_act" not in found
    t5 = load_spec("t5")
    assert t5 is not None
    shapes = {
        "shared/embedding": (61, 10),
        "encoder/block_000/layer_000/SelfAttention/relative_attention_bias": (3, 8),
        "encoder/block_000/layer_001/DenseReluDense/wi_0/kernel": (10, 36),
        "decoder/logits/kernel": (10, 61),
    }
    values = translate(Config({"d_model": 10}), t5, shapes).values
    assert values["feed_forward_proj"] == "gated-gelu"
    assert values["tie_word_embeddings"] is False
    assert (values["relative_attention_num_buckets"], values["vocab_size"]) == (8, 61)
    own = translate(Config({"model_type": "t5", "vocab_size": 5}), t5, shapes).values
    assert own["vocab_size"] == 5
    assert own["relative_attention_num_buckets"] == 8


@settings(max_examples=200, deadline=None)
@given(raw=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_gin_file_is_read_or_refused(
    raw: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.gin"
    path.write_bytes(b"d_model = " + raw)
    try:
        config = read_gin(path)
    except CheckpointError:
        return
    for spec in known_specs():
        translate(config, spec, {})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=5,
)
FIELDS = (
    "block_size",
    "decoder_size",
    "type_vocab_size",
    "n_token",
    "n_vocab",
    "depth_multiplier",
    "num_labels",
)


@settings(max_examples=50, deadline=None)
@given(values=st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_any_config_is_translated_or_refused(values: dict[str, object]) -> None:
    for spec in known_specs():
        config = translate(Config(values), spec, {})
        for cls in spec.classes_of("google")[:1]:
            with contextlib.suppress(ArchitectureError):
                view(expand(spec, cls, config.with_edits({"num_hidden_layers": 1, "n_layer": 1})))


def test_from_tf_takes_them_too(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    source = write(tmp_path / "source", {**body(), **head(3)})
    model = from_pretrained(transformers.AutoModelForSequenceClassification, source, from_tf=True)
    assert model.config.num_labels == 3
    stored = open_checkpoint(source)["output_weights"].read()
    np.testing.assert_array_equal(model.classifier.weight.detach().numpy(), stored)
