"""Writes the results of ``run.py`` as a page: tables, and figures that miss their target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MB, GB = 1e6, 1e9
MAX_CP_RATIO = 2.5
"""Target: maximum time of a conversion, as a multiple of ``cp``."""
MIN_THEIRS_RATIO = 10
"""Target: minimum time of transformers 4.57.6, as a multiple of Equipoise's."""
SPARE_BYTES = 150 * 1e6
"""Target: maximum memory in addition to twice the largest tensor, in bytes."""
MAX_HELP_SECONDS, MAX_INSPECT_SECONDS = 0.2, 0.5


def render_page(results: Mapping[str, Any]) -> str:
    """Returns the page in Markdown."""
    parts = [_header_section(results["machine"])]
    misses: list[str] = []
    for model in results["models"].values():
        parts += [
            _model_section(model, results["machine"], misses),
            _comparison_section(model, misses),
        ]
    parts.append(_commands_section(results, misses))
    verdict = [f"- {miss}" for miss in misses] or ["Every target is met."]
    parts.append("\n".join(["## What misses its target", "", *verdict]))
    return "\n\n".join(part for part in parts if part) + "\n"


def _header_section(machine: Mapping[str, Any]) -> str:
    versions = [f"{name} {machine[name]}" for name in ("equipoise", "python", "numpy", "h5py")]
    if "transformers" in machine:
        versions.append(f"transformers {machine['transformers']}")
    return f"""# Speed and memory, {machine["date"]}

{machine["cpu"]}, {machine["cores"]} cores, {machine["memory"] / GB:.0f} GB of memory, {machine["system"]};
load average {machine["load"]} at the start. One core hashes {machine["sha256"] / GB:.1f} GB/s.
{", ".join(versions)}, {machine["cp"]}.

Random weights in float32, page cache warm, same disk; medians of runs in turns, each after the same rest (see `REST` in
`measure.py`). `convert` is the whole process: start of Python, imports, conversion, SHA-256 of every tensor and file on
both sides, `fsync`, rename. `cp` is a plain copy of the source, which GNU cp leaves to the kernel (`copy_file_range`);
`cp, sync` also waits for the disk, as the conversion does. Peak is the resident memory of the process."""


def _model_section(model: Mapping[str, Any], machine: Mapping[str, Any], misses: list[str]) -> str:
    limit = SPARE_BYTES + 2 * model["largest"]
    hashing = 4 * model["bytes"] / machine["sha256"] / machine["cores"]
    floor = (
        "SHA-256 of tensors and files on both sides goes four times over all bytes (three times where no tensor "
        f"changes); that alone takes {hashing:.2f} s ({hashing * 3 / 4:.2f} s) on all cores."
    )
    lines = [
        f"## {model['title']}: {model['bytes'] / GB:.2f} GB, {model['tensors']} tensors",
        "",
        f"{model['rounds']} rounds; the largest tensor has {model['largest'] / MB:.0f} MB, the peak may have {limit / MB:.0f} MB.",
        floor,
        "",
        "| from | to | convert | of it the call | cp | ratio | cp, sync | ratio | peak |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    over = []
    for pair in model["pairs"]:
        ratio, durable = pair["seconds"] / pair["cp"], pair["seconds"] / pair["cp_durable"]
        lines.append(
            f"| {pair['source']} | {pair['target']} | {pair['seconds']:.2f} s | {pair['call']:.2f} s "
            f"| {pair['cp']:.2f} s | {ratio:.1f} | {pair['cp_durable']:.2f} s | {durable:.1f} "
            f"| {pair['peak'] / MB:.0f} MB |"
        )
        if ratio > MAX_CP_RATIO:
            over.append(ratio)
        if pair["peak"] > limit:
            misses.append(
                f"{model['title']}, {pair['source']} to {pair['target']}: peak {pair['peak'] / MB:.0f} MB, "
                f"the target is {limit / MB:.0f} MB."
            )
    if over:
        misses.append(
            f"{model['title']}: {len(over)} of {len(model['pairs'])} conversions take more than {MAX_CP_RATIO} "
            f"times `cp`: {min(over):.1f} to {max(over):.1f} times."
        )
    return "\n".join(lines)


def _comparison_section(model: Mapping[str, Any], misses: list[str]) -> str:
    if not model["theirs"]:
        return ""
    lines = [
        f"### {model['title']} against transformers 4.57.6",
        "",
        "What a person waits for is the whole process, imports included; `call` is without them.",
        "",
        "| from | to | ours | 4.57.6 | times | call, ours | call, 4.57.6 | times | peak, ours | 4.57.6 | it did |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for row in model["theirs"]:
        (pair,) = [p for p in model["pairs"] if all(p[k] == row[k] for k in ("source", "target"))]
        times = row["seconds"] / pair["seconds"]
        lines.append(
            f"| {row['source']} | {row['target']} | {pair['seconds']:.2f} s | {row['seconds']:.1f} s "
            f"| {times:.1f} | {pair['call']:.2f} s | {row['call']:.1f} s | {row['call'] / pair['call']:.1f} "
            f"| {pair['peak'] / MB:.0f} MB | {row['peak'] / MB:.0f} MB | {row['what']} |"
        )
        if times < MIN_THEIRS_RATIO:
            misses.append(
                f"{model['title']}, {row['source']} to {row['target']}: {times:.1f} times as fast as 4.57.6 "
                f"({row['what']}), the target is {MIN_THEIRS_RATIO}."
            )
    return "\n".join(lines)


def _commands_section(results: Mapping[str, Any], misses: list[str]) -> str:
    rows = [("`equipoise --help`", results["help"], MAX_HELP_SECONDS)]
    for model in results["models"].values():
        title = model["title"]
        rows.append(
            (f"`equipoise inspect`, {title}", model["inspect_command"], MAX_INSPECT_SECONDS)
        )
        rows += [
            (f"open and find the class, {title}, {form}", seconds, MAX_INSPECT_SECONDS)
            for form, seconds in model["inspect"].items()
        ]
    lines = ["## Commands", "", "| what | seconds | target |", "|---|--:|--:|"]
    for what, seconds, target in rows:
        lines.append(f"| {what} | {seconds:.2f} | {target} |")
        if seconds > target:
            misses.append(f"{what}: {seconds:.2f} s, the target is {target} s.")
    return "\n".join(lines)
