"""``equipoise export``: makes a program of a model and proves that it answers like it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from equipoise.cli import _run, _validation
from equipoise.cli._types import ByteSize
from equipoise.cli.validate import exit_code, override_tolerance, print_report

if TYPE_CHECKING:
    from equipoise.validators.exporting import Exported


class AxisSize(click.ParamType[int | None]):
    """``dynamic``, or a size for good."""

    name = "dynamic|n"

    def convert(
        self,
        value: str | int | None,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> int | None:
        """The size; None where it may vary."""
        if value is None or isinstance(value, int):
            return value
        if value == "dynamic":
            return None
        if not value.isdecimal() or int(value) < 1:
            self.fail(f"{value!r} is neither 'dynamic' nor a size", param, ctx)
        return int(value)


@click.command()
@click.argument("model")
@click.argument("output", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "target",
    required=True,
    help="onnx, torchscript, torch-export, stablehlo, saved-model, tflite.",
)
@click.option("--task", help="A task of pipeline(); without it the one the model is made for.")
@click.option(
    "--dtype",
    type=_validation.PRECISION,
    default="fp32",
    show_default=True,
    help="Of the weights; the verdict is at that precision.",
)
@click.option("--opset", type=click.IntRange(1), help="Of ONNX; default: PyTorch's choice.")
@click.option("--batch", type=AxisSize(), help="A size for good; default: dynamic.")
@click.option("--sequence", type=AxisSize(), help="The same of the length of texts.")
@click.option("--external-data", is_flag=True, help="Weights of ONNX in a file of their own.")
@click.option(
    "--max-shard-size", type=ByteSize(), help="Largest file of ONNX weights: 5GB, 500MB, 2GiB."
)
@click.option(
    "--merged", is_flag=True, help="Behind an encoder: both decoders of ONNX in one file."
)
@click.option("--optimize", is_flag=True, help="Let ONNX Runtime fuse the graph; it then needs it.")
@click.option(
    "--quantize",
    type=click.Choice(["int8-dynamic"]),
    help="Matrices of ONNX and TFLite as int8, judged with the tolerance of int8.",
)
@click.option(
    "--layout",
    type=click.Choice(["optimum"]),
    default="optimum",
    show_default=True,
    help="Whose names files, inputs and outputs have.",
)
@click.option("--no-validate", is_flag=True, help="Do not judge; artifact.json says so.")
@click.option("--cases", help="Names of cases to judge by, separated by commas; without it all.")
@click.option(
    "--atol", type=click.FloatRange(0), help="A distance that is allowed beside the noise."
)
@click.option("--rtol", type=click.FloatRange(0), help="The same as a part of the output's scale.")
@click.option(
    "--strict/--no-strict",
    default=None,
    help="Exit 1 on decision-safe too; default: strict, but with --quantize not.",
)
@click.option("--ways", help="Which ways to try, separated by commas; without it all.")
@click.option("--force", is_flag=True, help="Replace an output folder that is not empty.")
@_validation.worker_options
@_run.json_option
@_run.handle_errors
def command(
    model: str,
    output: Path,
    target: str,
    task: str | None,
    dtype: str,
    opset: int | None,
    batch: int | None,
    sequence: int | None,
    external_data: bool,
    max_shard_size: int | None,
    merged: bool,
    optimize: bool,
    quantize: str | None,
    layout: str,
    no_validate: bool,
    cases: str | None,
    atol: float | None,
    rtol: float | None,
    strict: bool | None,
    ways: str | None,
    force: bool,
    device: str,
    environments: tuple[tuple[str, str], ...],
    threads: int | None,
    time_limit: float,
    memory_limit: int | None,
    as_json: bool,
) -> int:
    """Make a program of MODEL in the folder OUTPUT and judge it on all cases of its task.

    OUTPUT gets the program, config, tokenizer and processor, and artifact.json with the verdict. Ways of exporting
    are tried one after the other until the validator is content. Exit code 1: the program is beyond noise, and is kept
    and marked; 3: it could not be run; 2: bad input.
    """
    from equipoise.validators.exporting import Export, export
    from equipoise.validators.request import PRECISIONS, Request

    precision = PRECISIONS[dtype]
    sizes = {"batch": batch, "sequence": sequence}
    with (
        _validation.worker_pool(environments, time_limit, memory_limit) as workers,
        _validation.status_line() as tell,
    ):
        request = Request(
            model=Path(model),
            task=task,
            device=device,
            precision=precision,
            cases=_validation.split_names(cases),
            tolerance=override_tolerance(
                "int8" if quantize else precision, atol, rtol, fixed=bool(quantize)
            ),
            threads=_validation.thread_count(threads),
            progress=tell,
        )
        found = export(
            Export(
                request=request,
                output=output,
                target=target,
                sizes={name: size for name, size in sizes.items() if size is not None},
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
                },
            ),
            workers,
        )
    _run.print_json(found.artifact.as_dict()) if as_json else _show(found, output)
    if found.report is None:
        return _run.EXIT_OK
    # At one precision nothing but a fault puts a program beyond noise; weights of eight bits are beyond it by nature.
    return exit_code(found.report, strict=quantize is None if strict is None else strict)


def _show(found: Exported, output: Path) -> None:
    artifact = found.artifact
    for one in artifact.tried:
        said = one.verdict or ("failed" if one.reason else "made")
        reason = f": {one.reason}" if one.reason else ""
        click.echo(f"{one.way} ({one.how}), {one.seconds:.1f} s: {said}{reason}")
    for note in artifact.notes:
        click.echo(f"- {note}")
    if found.report is not None:
        print_report(found.report)
    else:
        click.echo("not judged")
    graphs = [str(graph["file"]) for graph in artifact.graphs.values()]
    for name in dict.fromkeys([artifact.program] if artifact.program else graphs):
        click.echo(f"wrote {output / name}")
