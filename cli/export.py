"""``equipoise export``: exports a model as a program and validates that its outputs are the model's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from equipoise.cli import _output, _run, _validation, _worker_options
from equipoise.cli._completion import complete_target
from equipoise.cli._types import ByteSize, PathName, SourceName
from equipoise.cli.validate import exit_code, override_tolerance, print_report

if TYPE_CHECKING:
    from equipoise.validators.export.export import ExportResult


DYNAMIC = "dynamic"


class AxisSize(click.ParamType[int | str]):
    """``dynamic``, or a fixed size."""

    name = "dynamic|n"

    def convert(
        self,
        value: str | int,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> int | str:
        """Returns the fixed size, or ``dynamic``."""
        if isinstance(value, int) or value == DYNAMIC:
            return value
        if not value.isdecimal() or int(value) < 1:
            self.fail(f"{value!r} is neither 'dynamic' nor a size", param, ctx)
        return int(value)


@click.command()
@click.argument("model", type=SourceName())
@click.argument("output", type=PathName())
@click.option(
    "--to",
    "target",
    required=True,
    shell_complete=complete_target,
    help="onnx, torchscript, torch-export, stablehlo, saved-model, tflite.",
)
@_validation.task_option
@click.option(
    "--dtype",
    type=_validation.PRECISION,
    default="fp32",
    show_default=True,
    help="Dtype of the weights; the program is validated at this precision.",
)
@click.option("--opset", type=click.IntRange(1), help="ONNX opset; default: PyTorch's.")
@click.option("--batch", type=AxisSize(), help="Fixed batch size; default: dynamic.")
@click.option("--sequence", type=AxisSize(), help="Fixed sequence length; default: dynamic.")
@click.option("--external-data", is_flag=True, help="Store ONNX weights in a separate file.")
@click.option(
    "--max-shard-size", type=ByteSize(), help="Largest file of ONNX weights: 5GB, 500MB, 2GiB."
)
@click.option(
    "--merged", is_flag=True, help="Encoder-decoders: merge both ONNX decoders into one file."
)
@click.option(
    "--optimize",
    is_flag=True,
    help="Let ONNX Runtime fuse the graph; only ONNX Runtime can then run it.",
)
@click.option(
    "--quantize",
    type=click.Choice(["int8-dynamic"]),
    help="Store matrices of ONNX and TFLite as int8; validated with the int8 tolerance.",
)
@click.option(
    "--layout",
    type=click.Choice(["optimum", "transformers.js"]),
    default="optimum",
    show_default=True,
    help="Names of files: optimum's, or the folder onnx/ and tokenizer.json for transformers.js.",
)
@click.option(
    "--graph",
    type=click.Choice(["whole", "body"]),
    default="whole",
    show_default=True,
    help="sentence-transformers: from tokens to the sentence's embedding, or the transformer alone.",
)
@click.option(
    "--with-tokenizer",
    is_flag=True,
    help="ONNX, SavedModel: write a program from texts to labels or vectors too, with the tokenizer in it.",
)
@click.option("--no-validate", is_flag=True, help="Skip validation; artifact.json records it.")
@click.option(
    "--cases",
    help="Names of cases to validate, separated by commas; default: all. The program is the same.",
)
@_validation.budget_option
@_validation.tolerance_options
@click.option(
    "--strict/--no-strict",
    default=None,
    help="Exit 1 on the verdict decision-safe too; default: yes, except with --quantize.",
)
@click.option("--ways", help="Export strategies to try, separated by commas; default: all.")
@click.option("--force", is_flag=True, help="Replace an output folder that Equipoise made.")
@_worker_options.worker_options
@_run.json_option
@_run.handle_errors
def command(
    model: str,
    output: Path,
    target: str,
    task: str | None,
    dtype: str,
    opset: int | None,
    batch: int | str | None,
    sequence: int | str | None,
    external_data: bool,
    max_shard_size: int | None,
    merged: bool,
    optimize: bool,
    quantize: str | None,
    layout: str,
    graph: str,
    with_tokenizer: bool,
    no_validate: bool,
    cases: str | None,
    budget: float | None,
    atol: float | None,
    rtol: float | None,
    strict: bool | None,
    ways: str | None,
    force: bool,
    workers: _worker_options.WorkerOptions,
    as_json: bool,
) -> int:
    """Export MODEL as a program into the folder OUTPUT and validate it on all cases of its task.

    OUTPUT receives the program, config, tokenizer and processor, and artifact.json with the verdict. Export
    strategies are tried one after the other until one passes validation. Exit code 1: the program diverged; it is kept
    and marked; 3: it could not be run; 2: bad input.
    """
    from equipoise.convert.checkpoints.hub import resolve_source
    from equipoise.validators.core.precision import PRECISIONS
    from equipoise.validators.core.request import Request
    from equipoise.validators.export.export import ExportRequest, export_model
    from equipoise.validators.export.targets import resolve_target

    resolve_target(target)  # says first what is misspelt
    precision = PRECISIONS[dtype]
    sizes = {"batch": batch, "sequence": sequence}
    with (
        workers.pool() as pool,
        _worker_options.status_line() as tell,
    ):
        folder = resolve_source(model)
        if folder.is_dir():
            _validation.print_own_code_note(folder)
        request = Request(
            model=folder,
            sentence=graph == "whole",
            task=task,
            device=workers.device,
            precision=precision,
            cases=_validation.split_names(cases),
            budget=budget,
            tolerance=override_tolerance(
                "int8" if quantize else precision, atol, rtol, fixed=bool(quantize)
            ),
            threads=workers.threads,
            progress=tell,
        )
        found = export_model(
            ExportRequest(
                request=request,
                output=output,
                target=target,
                sizes={name: size for name, size in sizes.items() if isinstance(size, int)},
                dynamic=[name for name, size in sizes.items() if size == DYNAMIC],
                judged=not no_validate,
                force=force,
                ways=_validation.split_names(ways),
                options={
                    "opset": opset,
                    "external": external_data,
                    "max_shard_size": max_shard_size,
                    "merged": merged,
                    "optimize": optimize,
                    "quantize": quantize,
                    "with_tokenizer": with_tokenizer,
                    "layout": None if layout == "optimum" else layout,
                },
            ),
            pool,
        )
    _run.print_json(found.artifact.as_dict()) if as_json else _show(found, output)
    if found.report is None:
        return _run.EXIT_OK
    # At the model's own precision only a defect exceeds the noise; int8 weights always exceed it.
    return exit_code(found.report, strict=quantize is None if strict is None else strict)


def _show(found: ExportResult, output: Path) -> None:
    artifact = found.artifact
    for one in artifact.tried:
        state = one.verdict or ("failed" if one.reason else "exported")
        reason = f": {one.reason}" if one.reason else ""
        _output.echo(f"{one.way} ({one.how}), {one.seconds:.1f} s: {state}{reason}")
    for note in artifact.notes:
        _output.echo(f"- {note}")
    if found.report is not None:
        print_report(found.report)
    else:
        _output.echo("not validated")
    graphs = [str(graph["file"]) for graph in artifact.graphs.values()]
    if artifact.text_program:
        graphs.append(str(artifact.text_program["file"]))
    for name in dict.fromkeys([artifact.program, *graphs] if artifact.program else graphs):
        _output.echo(f"wrote {output / name}")
