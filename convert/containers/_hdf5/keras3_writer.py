"""Writes weights of Keras 3: a ``.weights.h5`` file, or a ``.keras`` archive around one."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
from h5py import h5p

from equipoise.convert.containers._hdf5.datasets import translate_write_errors
from equipoise.convert.containers._hdf5.file_window import FileWindow
from equipoise.convert.containers._hdf5.writer import check_header, create_dataset
from equipoise.convert.containers._shared.checks import check_headers
from equipoise.convert.containers._shared.slot_file import Slot, SlotFile, SlotWriter, write_all
from equipoise.convert.containers._shared.zip_writer import (
    ZipRecord,
    central_directory,
    place_records,
)
from equipoise.convert.core.errors import ContainerError
from equipoise.convert.core.tensor import Extent, TensorHeader
from equipoise.convert.files.file_names import TASK_PREFIX, TASK_WEIGHTS

WEIGHTS_NAME = "model.weights.h5"
TEXT_NAMES = ("metadata.json", "config.json")
"""What an archive holds before the weights."""


class Writer(SlotWriter):
    """Writes one file: an archive if its name ends with ``.keras``, else HDF5.

    Args:
        path: The file.
        headers: The variables; names are their paths in HDF5, e.g. ``layers/dense/vars/0``; in the file of a head after ``task/``.
        metadata: For an archive the texts of ``config.json`` and ``metadata.json``, by these names.

    Raises:
        UnsupportedDtypeError: HDF5 cannot hold a dtype.
        ContainerError: A name is no path, or the texts of an archive are missing.
    """

    def __init__(
        self, path: Path, headers: Sequence[TensorHeader], metadata: Mapping[str, str]
    ) -> None:
        check_headers(headers, path, shares=False)
        for header in headers:
            check_header(header, path)
        self._path = path
        self._texts = _archive_texts(path, metadata)
        self._records: list[ZipRecord] = []
        with open(path, "wb"):
            pass  # A folder without write permission raises OSError, not ContainerError.
        self._file = SlotFile(path, self._create(headers))

    def _create(self, headers: Sequence[TensorHeader]) -> list[Slot]:
        """Creates the structure; an archive's place for it depends on its size, which is known afterwards."""
        if not self._texts:
            with translate_write_errors(self._path), h5py.File(self._path, "w") as file:
                return _create_datasets(file, headers, 0, self._path)
        size = sum(header.nbytes for header in headers)
        while True:
            self._records = self._place(size)
            start = self._records[-1].offset
            with (
                FileWindow(self._path, start, writable=True) as window,
                translate_write_errors(self._path),
                h5py.File(window, "w") as file,
            ):
                slots = _create_datasets(file, headers, start, self._path)
                file.flush()
                size = window.size
            self._records = self._place(size)
            if self._records[-1].offset == start:
                return slots

    def _place(self, size: int) -> list[ZipRecord]:
        texts = [(name, len(raw)) for name, raw in self._texts.items()]
        return list(place_records([*texts, (WEIGHTS_NAME, size)]))

    @property
    def finished_bytes(self) -> int:
        """Number of leading bytes that are final; an archive begins with checksums, which come last."""
        return super().finished_bytes if not self._texts else 0

    def close(self) -> None:
        """Finishes the file and flushes it to disk.

        Raises:
            ContainerError: Variables are missing.
        """
        super().close()
        if self._texts:
            self._finish_archive()

    def _finish_archive(self) -> None:
        *texts, weights = self._records
        descriptor = os.open(self._path, os.O_RDWR)
        try:
            crcs = []
            for record, raw in zip(texts, self._texts.values(), strict=True):
                crcs.append(zlib.crc32(raw))
                write_all(descriptor, memoryview(raw), record.offset)
            crc = 0
            for block in Extent(self._path, weights.offset, weights.size).blocks():
                crc = zlib.crc32(block, crc)
            crcs.append(crc)
            for record, one in zip(self._records, crcs, strict=True):
                write_all(descriptor, memoryview(record.local(one)), record.header)
            directory = central_directory(self._records, crcs, weights.end)
            write_all(descriptor, memoryview(directory), weights.end)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _archive_texts(path: Path, metadata: Mapping[str, str]) -> dict[str, bytes]:
    if path.suffix != ".keras":
        return {}
    missing = [name for name in TEXT_NAMES if name not in metadata]
    if missing:
        raise ContainerError(
            "an archive of Keras needs the config of its model",
            file=path,
            expected=", ".join(TEXT_NAMES),
            hint="write a .weights.h5 file instead, which Keras loads into a model",
        )
    return {name: metadata[name].encode() for name in TEXT_NAMES}


def _create_datasets(
    file: h5py.File, headers: Sequence[TensorHeader], start: int, path: Path
) -> list[Slot]:
    parents = h5p.create(h5p.LINK_CREATE)
    parents.set_create_intermediate_group(True)
    file.create_group("vars")
    slots = []
    for header in headers:
        inner = header.name.removeprefix(TASK_PREFIX) if path.name == TASK_WEIGHTS else header.name
        offset = create_dataset(file, inner, header, parents)
        if header.dtype.name == "bfloat16":
            file[header.name].attrs["dtype"] = "bfloat16"
        slots.append(Slot(header.name, ((start + offset, header.nbytes),)))
    return slots
