"""The stack and the memo of the pickle machine; see :mod:`equipoise.convert.containers._pytorch.unpickle`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from mmap import mmap
from typing import NoReturn

from equipoise.convert.containers._pytorch.pickle_values import Global, Instance, dict_key
from equipoise.convert.core.errors import ContainerError, UnsafePickleError

MAX_PICKLE_BYTES = 64 << 20
"""Longest pickle that is read; a hundred thousand tensors take 15 MB."""
_MAX_LINE_BYTES = 4096
_MIN_OBJECTS = 100_000
_BYTES_PER_OBJECT = 6
"""A pickle may hold this many containers and memo entries, of about 100 bytes each, and one more in this many bytes; a pickle of
tensors holds one in ten bytes."""
_MIN_ARGUMENT_BUDGET = 10_000
"""Calls may copy their arguments; their total number is limited to this or the length of the pickle."""


class _Mark:
    """The marker on the stack."""


_MARK = _Mark()


class PickleMachine:
    """The state of unpickling: bytes, stack and memo.

    Args:
        data: The bytes that contain the pickle.
        start: Its offset.
        table: The allowed globals, by ``module.name``.
        persistent: Returns the value for a persistent id.
    """

    def __init__(
        self,
        data: bytes | mmap,
        start: int,
        table: Mapping[str, object],
        persistent: Callable[[object], object] | None = None,
    ) -> None:
        self._data = data
        self._limit = min(len(data), start + MAX_PICKLE_BYTES)
        self._table = table
        self._persistent = persistent
        self._stack: list[object] = []
        self._memo: dict[int, object] = {}
        self._argument_budget = max(_MIN_ARGUMENT_BUDGET, self._limit - start)
        self.end = start
        self._start = start
        self._objects = 0

    def fail(self, why: str) -> NoReturn:
        """Raises ``ContainerError`` with the position."""
        raise ContainerError(f"the pickle is corrupt at byte {self.end}: {why}")

    def count_object(self) -> None:
        """Counts a container or memo entry; refuses a pickle that would take much more memory than its bytes."""
        self._objects += 1
        if self._objects > _MIN_OBJECTS + (self.end - self._start) // _BYTES_PER_OBJECT:
            self.fail("too many tiny objects; no pickle of tensors has so many")

    def take(self, count: int) -> bytes:
        """Reads the next bytes."""
        end = self.end + count
        if end > self._limit:
            self.fail(f"{count} bytes wanted, {self._limit - self.end} are left")
        piece = self._data[self.end : end]
        self.end = end
        return piece

    def byte(self) -> int:
        """Reads the next byte as an integer."""
        at = self.end
        if at >= self._limit:
            self.fail("1 bytes wanted, 0 are left")
        self.end = at + 1
        return self._data[at]

    def number(self, size: int, signed: bool = False) -> int:
        """Reads the next little-endian integer."""
        return int.from_bytes(self.take(size), "little", signed=signed)

    def take_sized(self, size: int) -> bytes:
        """Reads bytes that are preceded by their count."""
        return self.take(self.number(size))

    def line(self) -> bytes:
        """Reads the next line, without the newline."""
        end = self._data.find(b"\n", self.end, min(self._limit, self.end + _MAX_LINE_BYTES))
        if end < 0:
            self.fail("a line has no end")
        line = self.take(end - self.end)
        self.end += 1
        return line

    def push(self, value: object) -> None:
        """Pushes a value on the stack."""
        self._stack.append(value)

    def pop(self) -> object:
        """Pops the topmost value."""
        if not self._stack or self._stack[-1] is _MARK:
            self.fail("the stack is empty")
        return self._stack.pop()

    def top(self) -> object:
        """Returns the topmost value or mark without popping it."""
        if not self._stack:
            self.fail("the stack is empty")
        return self._stack[-1]

    def check_protocol(self) -> None:
        """PROTO."""
        if self.byte() > 5:
            self.fail("unknown protocol")

    def skip_frame(self) -> None:
        """FRAME, a hint for buffering."""
        self.take(8)

    def mark(self) -> None:
        """MARK."""
        self.push(_MARK)

    def pop_to_mark(self) -> list[object]:
        """Pops everything above the last mark, and the mark."""
        for index in range(len(self._stack) - 1, -1, -1):
            if self._stack[index] is _MARK:
                items = self._stack[index + 1 :]
                del self._stack[index:]
                return items
        return self.fail("no mark on the stack")

    def pop_any(self) -> None:
        """POP, which also drops a mark."""
        self.top()
        self._stack.pop()

    def duplicate(self) -> None:
        """DUP."""
        self.push(self.top())

    def tuple_of(self, count: int) -> None:
        """TUPLE1, TUPLE2, TUPLE3."""
        items = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(items)))

    def memo_put(self, index: int | None) -> None:
        """PUT, or MEMOIZE with None."""
        if index is not None and not 0 <= index < 1 << 32:
            self.fail(
                "a memo index is too large"
            )  # large integers can be crafted to collide in a dict
        self._memo[len(self._memo) if index is None else index] = self.top()

    def memo_get(self, index: int) -> None:
        """GET."""
        if index not in self._memo:
            self.fail(f"the memo has no {index}")
        self.push(self._memo[index])

    def extend(self, items: list[object]) -> None:
        """APPEND, APPENDS and ADDITEMS; sets are kept as lists."""
        target = self.top()
        if not isinstance(target, list):
            self.fail(f"items for a {type(target).__name__}")
        target.extend(items)

    def update(self, items: list[object]) -> None:
        """SETITEM and SETITEMS."""
        target = self.top()
        if not isinstance(target, dict):
            self.fail(f"keys for a {type(target).__name__}")
        target.update(self.pairs(items))

    def pairs(self, items: list[object]) -> dict[object, object]:
        """Returns a dict of alternating keys and values."""
        if len(items) % 2:
            self.fail("a key without a value")
        return {dict_key(items[i]): items[i + 1] for i in range(0, len(items), 2)}

    def pop_list(self) -> list[object]:
        """Pops the topmost value as a list."""
        return [self.pop()]

    def pop_pair(self) -> list[object]:
        """Pops the two topmost values; the upper one is last."""
        upper = self.pop()
        return [self.pop(), upper]

    def find(self, module: bytes, name: bytes) -> None:
        """GLOBAL."""
        self._push_global(module.decode(), name.decode())

    def find_on_stack(self) -> None:
        """STACK_GLOBAL."""
        module, name = self.pop_pair()
        if not isinstance(module, str) or not isinstance(name, str):
            self.fail("the name of a global is not a string")
        self._push_global(module, name)

    def _push_global(self, module: str, name: str) -> None:
        full = f"{module}.{name}"[:200]
        if full not in self._table:
            raise UnsafePickleError(
                f"the pickle names the global {full!r}, which does not build tensors; "
                "nothing was executed",
                hint="save the state_dict alone, or convert it to safetensors where you trust it",
            )
        self.push(self._table[full])

    def call(self, with_keywords: bool = False) -> None:
        """REDUCE, NEWOBJ and NEWOBJ_EX."""
        if with_keywords and self.pop() != {}:
            self.fail("keyword arguments")
        callee, arguments = self.pop_pair()
        if not isinstance(callee, Global) or not isinstance(arguments, tuple):
            self.fail(f"a {type(callee).__name__} is called")
        if callee.build is None:
            self.fail(f"{callee.name} is called")
        sized = (item for item in (arguments, *arguments) if isinstance(item, (list, tuple)))
        self._argument_budget -= sum(map(len, sized))
        if self._argument_budget < 0:
            self.fail("calls copy their arguments too often")
        self.push(callee.build(arguments))

    def build(self) -> None:
        """BUILD: the state is dropped, since objects are inert; only an :class:`Instance` keeps it."""
        state = self.pop()
        target = self.top()
        if isinstance(target, Instance):
            target.state = state

    def persistent(self, identifier: object) -> None:
        """PERSID and BINPERSID."""
        if self._persistent is None:
            self.fail("a persistent id where none is expected")
        self.push(self._persistent(identifier))
