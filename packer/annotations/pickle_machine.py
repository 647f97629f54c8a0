"""The stack machine that a pickle is a program for, without the calls and the imports.

The memo grows by neighbours, containers are counted. Nothing here is recursive.
"""

import struct
from collections.abc import Callable
from pickletools import opcodes as known_opcodes
from typing import Any, NoReturn

from clipshards.packer.annotations.pickle_checks import (
    INTERNAL,
    check_keys,
    check_value,
    check_values,
    fail_global,
)
from clipshards.packer.annotations.pickle_globals import (
    ARRAY_ARGS,
    GLOBALS,
    Global,
    Pending,
    are_array_args,
    build,
)
from clipshards.packer.annotations.pickle_source import VALUES, Source

_HIGHEST_PROTOCOL = 5
_MAX_MARKS = 10_000
_CONTAINER_BYTES = 3
"""Bytes that a list, dict or tuple takes in a file at least; an empty one takes 1, and 90 in
memory, but nobody writes files of these alone."""
_MIN_CONTAINERS = 1000

_STOP = ord(".")
_BININT1 = ord("K")
_BINGET = ord("h")
_LONG_BINGET = ord("j")
_MEMOIZE = 0x94
_LONG_OPERAND = struct.Struct("<xI").unpack_from
"""Reads the number behind the opcode at a place."""
_REFUSED = {
    "PERSID": "a persistent id",
    "BINPERSID": "a persistent id",
    "EXT1": "an extension code",
    "EXT2": "an extension code",
    "EXT4": "an extension code",
    "EMPTY_SET": "a set",
    "FROZENSET": "a set",
    "NEXT_BUFFER": "a buffer that is not in the file",
}
_UNSET = Pending()
"""Fills the gaps of the memo."""


class Machine:
    """One pickle being read. A method an opcode, picked from `_STEPS`."""

    __slots__ = ("_frame_end", "_gaps", "_marks", "_memo", "_room", "_source", "_stack")

    def __init__(self, source: Source) -> None:
        self._source = source
        self._frame_end = 0
        self._stack: list[Any] = []
        self._marks: list[int] = []
        """How high the stack was at each mark."""
        self._memo: list[Any] = []
        self._gaps = False
        self._room = source.size // _CONTAINER_BYTES + _MIN_CONTAINERS
        """Containers that may still be made."""

    def run(self) -> Any:
        """Return the value that the pickle holds.

        Raises:
            AnnotationError: As for `load_pickle`.
        """
        source, stack, memo = self._source, self._stack, self._memo
        data, values, steps = source.data, _VALUE_STEPS, _STEPS
        pos = 0
        try:
            while True:
                opcode = data[pos]
                # Four kinds of opcodes are more than half of a file: done without a call each.
                if opcode == _LONG_BINGET:
                    value = memo[_LONG_OPERAND(data, pos)[0]]
                    pos += 5
                    if type(value) is Pending:
                        source.pos = pos
                        self._fail_pending()
                    stack.append(value)
                elif opcode == _MEMOIZE and not self._gaps:
                    value = stack[-1]
                    pos += 1
                    if type(value) is Pending:
                        source.pos = pos
                        self._remember(value, len(memo))
                    memo.append(value)
                elif opcode == _BININT1:
                    stack.append(data[pos + 1])
                    pos += 2
                elif opcode == _BINGET:
                    value = memo[data[pos + 1]]
                    pos += 2
                    if type(value) is Pending:
                        source.pos = pos
                        self._fail_pending()
                    stack.append(value)
                elif opcode == _STOP:
                    source.pos = pos + 1
                    return self._result()
                else:
                    source.pos = pos + 1
                    if read := values[opcode]:
                        stack.append(read(source))
                    else:
                        steps[opcode](self)
                    pos = source.pos
        except IndexError:
            source.pos = max(source.pos, pos + 1)
            if source.pos < source.size:
                source.fail_broken("an opcode without its operand")
            source.fail_cut()
        except struct.error:
            source.fail_cut()
        except UnicodeDecodeError:
            source.refuse("text that is not UTF-8")
        except MemoryError:
            source.fail("the file does not fit into memory")

    def _result(self) -> Any:
        source = self._source
        if len(self._stack) != 1 or self._marks:
            source.fail_broken("an end with no value, or with several")
        (value,) = self._stack
        check_value(source, value)
        if source.pos < self._frame_end:
            source.fail_broken("the end before the end of the frame")
        if source.pos < source.size:
            rest = source.size - source.pos
            source.fail(f"expected one pickle, got {rest} more bytes after its end")
        return value

    # Checks.

    def _fail_pending(self) -> NoReturn:
        self._source.fail_broken("a value that is not there yet")

    def _fail_room(self) -> NoReturn:
        self._source.refuse("more containers than its size has room for")

    # Containers.

    def _mark(self) -> None:
        if len(self._marks) >= _MAX_MARKS:
            self._source.refuse("values nested too deep")
        self._marks.append(len(self._stack))

    def _pop_from(self, height: int) -> list[Any]:
        stack = self._stack
        if not 0 <= height <= len(stack):
            raise IndexError
        items = stack[height:]
        del stack[height:]
        return items

    def _push_container(self, value: object) -> None:
        self._room -= 1
        if self._room < 0:
            self._fail_room()
        self._stack.append(value)

    def _empty_list(self) -> None:
        self._push_container([])

    def _empty_dict(self) -> None:
        self._room -= 1  # with its first key, a dict takes twice what others take
        self._push_container({})

    def _tuple(self) -> None:
        self._push_tuple(self._marks.pop())

    def _tuple1(self) -> None:
        self._push_tuple(len(self._stack) - 1)

    def _tuple2(self) -> None:
        self._push_tuple(len(self._stack) - 2)

    def _tuple3(self) -> None:
        self._push_tuple(len(self._stack) - 3)

    def _push_tuple(self, height: int) -> None:
        stack = self._stack
        if not 0 <= height <= len(stack):
            raise IndexError
        # As _pop_from and _push_container, without their calls: the step taken most often.
        above = stack[height:]
        del stack[height:]
        items = tuple(above)
        if INTERNAL.isdisjoint(map(type, items)):
            self._room -= 1
            if self._room < 0:
                self._fail_room()
            stack.append(items)
        elif are_array_args(items):
            stack.append(ARRAY_ARGS)
        else:
            check_values(self._source, items)

    def _list(self) -> None:
        items = self._pop_from(self._marks.pop())
        check_values(self._source, items)
        self._push_container(items)

    def _dict(self) -> None:
        items = self._pop_from(self._marks.pop())
        self._empty_dict()
        self._set(items)

    def _append(self) -> None:
        value = self._stack.pop()
        self._extend([value])

    def _appends(self) -> None:
        self._extend(self._pop_from(self._marks.pop()))

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            self._source.fail_broken(f"an append to a {type(target).__name__}")
        check_values(self._source, items)
        target.extend(items)

    def _set_item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set([key, value])

    def _set_items(self) -> None:
        self._set(self._pop_from(self._marks.pop()))

    def _set(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not dict or len(items) % 2:
            self._source.fail_broken(
                f"a key set in a {type(target).__name__}, or a key without value"
            )
        keys, values = items[::2], items[1::2]
        check_keys(self._source, keys)
        check_values(self._source, values)
        target.update(zip(keys, values, strict=True))

    # The memo.

    def _memoize_with_gaps(self) -> None:
        self._source.fail_broken("two ways of counting the memo")

    def _put(self, width: int) -> None:
        index = self._source.uint(width)
        value = self._stack[-1]
        if index == len(self._memo) and type(value) is not Pending:
            self._memo.append(value)
        else:
            self._put_at(index)

    def _text_put(self) -> None:
        self._put_at(self._source.integer(self._source.line()))

    def _put_at(self, index: int) -> None:
        memo, value = self._memo, self._stack[-1]
        if index >= len(memo):
            # Nobody puts more values than the file has bytes so far.
            if index > self._source.pos:
                self._source.fail_broken(f"place {index} of the memo")
            self._gaps = self._gaps or index > len(memo)
            memo.extend([_UNSET] * (index + 1 - len(memo)))
        elif index < 0 or memo[index] is not _UNSET:
            self._source.fail_broken(f"place {index} of the memo a second time")
        memo[index] = value
        if type(value) is Pending:
            self._remember(value, index)

    def _remember(self, pending: Pending, index: int) -> None:
        if pending.slots:
            self._source.fail_broken("an array or a dtype in the memo twice")
        pending.slots.append(index)

    def _text_get(self) -> None:
        index = self._source.integer(self._source.line())
        value = self._memo[index] if 0 <= index < len(self._memo) else _UNSET
        if type(value) is Pending:
            self._fail_pending()
        self._stack.append(value)

    # Framing.

    def _protocol(self) -> None:
        source = self._source
        version = source.uint(1)
        if source.pos != 2:
            source.fail_broken("a second protocol number")
        if version > _HIGHEST_PROTOCOL:
            source.fail_broken(f"protocol {version}, expected at most {_HIGHEST_PROTOCOL}")

    def _frame(self) -> None:
        source = self._source
        opened = source.pos - 1
        length = source.uint(8)
        if opened < self._frame_end:
            source.fail_broken("a frame inside a frame")
        self._frame_end = source.pos + length
        if self._frame_end > source.size:
            source.fail_cut()

    def _refused(self) -> None:
        opcode = self._source.data[self._source.pos - 1]
        names = [known.name for known in known_opcodes if known.code == chr(opcode)]
        if not names:
            self._source.fail_broken(f"{bytes([opcode])!r} for an opcode")
        if names == ["INST"]:
            self._global()
        self._source.refuse(_REFUSED.get(names[0], f"opcode {names[0]}"))

    # Names, calls of them, and the states of what they made.

    def _global(self) -> None:
        module, name = self._source.line(), self._source.line()
        self._push_global(str(module, "utf-8", "replace"), str(name, "utf-8", "replace"))

    def _stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if type(name) is not str or type(module) is not str:
            self._source.fail_broken("a global without a name")
        self._push_global(module, name)

    def _push_global(self, module: str, name: str) -> None:
        found = GLOBALS.get((module, name))
        if found is None:
            fail_global(self._source, f"{module}.{name}")
        self._stack.append(found)

    def _reduce(self) -> None:
        args, called = self._stack.pop(), self._stack.pop()
        if type(called) is not Global or called.call is None:
            check_value(self._source, called)
            self._source.refuse(f"a call of a {type(called).__name__}")
        self._stack.append(called.call(self._source, args))

    def _build(self) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if type(target) is not Pending:
            check_value(self._source, target)
            self._source.refuse(f"a state for a {type(target).__name__}")
        made = build(self._source, target, state)
        self._stack[-1] = made
        for slot in target.slots:
            self._memo[slot] = made


_STEPS_BY_CODE: dict[bytes, Callable[[Machine], None]] = {
    b"\x80": Machine._protocol,
    b"\x95": Machine._frame,
    # Containers.
    b"(": Machine._mark,
    b"\x85": Machine._tuple1,
    b"\x86": Machine._tuple2,
    b"\x87": Machine._tuple3,
    b"t": Machine._tuple,
    b"]": Machine._empty_list,
    b"l": Machine._list,
    b"a": Machine._append,
    b"e": Machine._appends,
    b"}": Machine._empty_dict,
    b"d": Machine._dict,
    b"s": Machine._set_item,
    b"u": Machine._set_items,
    # The memo.
    b"\x94": Machine._memoize_with_gaps,
    b"q": lambda machine: machine._put(1),
    b"r": lambda machine: machine._put(4),
    b"p": Machine._text_put,
    b"g": Machine._text_get,
    # Names, calls of them, and the states of what they made.
    b"c": Machine._global,
    b"\x93": Machine._stack_global,
    b"R": Machine._reduce,
    b"b": Machine._build,
}
_STEPS = [_STEPS_BY_CODE.get(bytes([code]), Machine._refused) for code in range(256)]
_VALUE_STEPS = [VALUES.get(bytes([code])) for code in range(256)]
