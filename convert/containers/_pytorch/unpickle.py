"""Unpickles PyTorch checkpoints safely: builds plain data and inert objects, and never calls a global.

It does not use ``pickle.Unpickler``: CPython's C implementation sizes its memo by the largest index in the pickle (an
opcode of five bytes can request 64 GiB), crashes on deeply nested keys, and runs methods of objects in BUILD and
NEWOBJ. This machine implements the opcodes that PyTorch writes; its memo is a dict, a global is only a name, and a
name that is not in the caller's table raises before anything is executed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from mmap import mmap

from equipoise.convert.containers._pytorch.pickle_machine import PickleMachine
from equipoise.convert.core.errors import ContainerError, UnsafePickleError

MAX_OPCODES = 16 << 20
"""Largest number of opcodes; the shortest create an object of 64 bytes each."""
_STOP = 0x2E
_ALLOCATING = frozenset(b"]ltd}u\x85\x86\x87\x8f\x91qrp\x94")
"""Opcodes that create a list, tuple, dict or memo entry."""


def load_pickle(
    data: bytes | mmap,
    start: int,
    table: Mapping[str, object],
    persistent: Callable[[object], object] | None = None,
) -> tuple[object, int]:
    """Returns the pickled value, and the offset after the pickle.

    Args:
        data: The bytes that contain the pickle.
        start: Its offset.
        table: The allowed globals, by ``module.name``; callable ones are ``Global``.
        persistent: Returns the value for a persistent id.

    Raises:
        UnsafePickleError: It names a global that is not in the table.
        ContainerError: It is corrupt, or too large.
    """
    machine = PickleMachine(data, start, table, persistent)
    try:
        for _ in range(MAX_OPCODES):
            code = machine.byte()
            if code == _STOP:
                return machine.pop(), machine.end
            operation = _OPERATIONS.get(code)
            if operation is None:
                machine.fail(f"opcode 0x{code:02x} is not allowed in a checkpoint")
            operation(machine)
            if code in _ALLOCATING:
                machine.count_object()
    except (struct.error, ValueError) as error:
        raise ContainerError(f"the pickle is corrupt at byte {machine.end}: {error}") from error
    raise ContainerError("the pickle is too long", expected=f"at most {MAX_OPCODES} opcodes")


def _decode_text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogatepass")


def _decode_python2_text(raw: bytes) -> object:
    """Decodes a str of Python 2 if it is ASCII; it may be a string or bytes."""
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError:
        return raw


def _decode_decimal(line: bytes) -> object:
    if line in (b"00", b"01"):
        return line == b"01"
    return int(line.removesuffix(b"L"))


def _decode_long(raw: bytes) -> int:
    return int.from_bytes(raw, "little", signed=True)


def _refuse_extension(machine: PickleMachine) -> None:
    raise UnsafePickleError(
        f"the pickle names a global through the extension registry at byte {machine.end}; "
        "nothing was executed"
    )


def _refuse_instance(machine: PickleMachine) -> None:
    name = b".".join((machine.line(), machine.line())).decode("utf-8", "replace")
    raise UnsafePickleError(f"the pickle instantiates {name!r}; nothing was executed")


_OPERATIONS: dict[int, Callable[[PickleMachine], None]] = {
    0x80: PickleMachine.check_protocol,
    0x95: PickleMachine.skip_frame,
    ord("("): PickleMachine.mark,
    ord("0"): PickleMachine.pop_any,
    ord("1"): lambda m: m.pop_to_mark().clear(),
    ord("2"): PickleMachine.duplicate,
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("I"): lambda m: m.push(_decode_decimal(m.line())),
    ord("L"): lambda m: m.push(_decode_decimal(m.line())),
    ord("F"): lambda m: m.push(float(m.line())),
    ord("J"): lambda m: m.push(m.number(4, signed=True)),
    ord("K"): lambda m: m.push(m.byte()),
    ord("M"): lambda m: m.push(m.number(2)),
    0x8A: lambda m: m.push(_decode_long(m.take_sized(1))),
    0x8B: lambda m: m.push(_decode_long(m.take_sized(4))),
    ord("G"): lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
    ord("T"): lambda m: m.push(_decode_python2_text(m.take_sized(4))),
    ord("U"): lambda m: m.push(_decode_python2_text(m.take_sized(1))),
    ord("B"): lambda m: m.push(m.take_sized(4)),
    ord("C"): lambda m: m.push(m.take_sized(1)),
    0x8E: lambda m: m.push(m.take_sized(8)),
    0x96: lambda m: m.push(m.take_sized(8)),
    ord("X"): lambda m: m.push(_decode_text(m.take_sized(4))),
    0x8C: lambda m: m.push(_decode_text(m.take_sized(1))),
    0x8D: lambda m: m.push(_decode_text(m.take_sized(8))),
    ord("]"): lambda m: m.push([]),
    ord("l"): lambda m: m.push(m.pop_to_mark()),
    ord("a"): lambda m: m.extend(m.pop_list()),
    ord("e"): lambda m: m.extend(m.pop_to_mark()),
    ord(")"): lambda m: m.push(()),
    ord("t"): lambda m: m.push(tuple(m.pop_to_mark())),
    0x85: lambda m: m.tuple_of(1),
    0x86: lambda m: m.tuple_of(2),
    0x87: lambda m: m.tuple_of(3),
    ord("}"): lambda m: m.push({}),
    ord("d"): lambda m: m.push(m.pairs(m.pop_to_mark())),
    ord("s"): lambda m: m.update(m.pop_pair()),
    ord("u"): lambda m: m.update(m.pop_to_mark()),
    0x8F: lambda m: m.push([]),
    0x90: lambda m: m.extend(m.pop_to_mark()),
    0x91: lambda m: m.push(m.pop_to_mark()),
    ord("h"): lambda m: m.memo_get(m.byte()),
    ord("j"): lambda m: m.memo_get(m.number(4)),
    ord("g"): lambda m: m.memo_get(int(m.line())),
    ord("q"): lambda m: m.memo_put(m.byte()),
    ord("r"): lambda m: m.memo_put(m.number(4)),
    ord("p"): lambda m: m.memo_put(int(m.line())),
    0x94: lambda m: m.memo_put(None),
    ord("c"): lambda m: m.find(m.line(), m.line()),
    0x93: PickleMachine.find_on_stack,
    ord("R"): PickleMachine.call,
    0x81: PickleMachine.call,
    0x92: lambda m: m.call(with_keywords=True),
    ord("b"): PickleMachine.build,
    ord("Q"): lambda m: m.persistent(m.pop_list()[0]),
    ord("P"): lambda m: m.persistent(m.line().decode("ascii")),
    0x82: _refuse_extension,
    0x83: _refuse_extension,
    0x84: _refuse_extension,
    ord("i"): _refuse_instance,
}
