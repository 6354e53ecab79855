"""An inspector reads a pickle the way joblib's loader would, without running any of it.

Rules:

1. Every global becomes an inert `Stand`; nothing is imported, called or built.
2. It follows joblib's layout: the bytes of an array stand in the file right after the pickled
   `NumpyArrayWrapper`, and an array of objects is a pickle of its own there.
3. Only globals may be called, never what the pickle itself has built; state is set only on
   what it has built, never on a class or function. What only serves to build (a maker) is
   called and not kept: a model calls what it keeps, with data from outside.
4. numpy's building blocks are checked as far as they reach into memory: no array is built over
   a buffer of object pointers, no dtype lies about what it holds, no size exceeds the file.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn, TypeGuard

import numpy as np

from foretell.runtimes.safety.allowlist import translated
from foretell.runtimes.safety.objects import (
    Global,
    Misuse,
    ReadsFiles,
    Stand,
    check_making,
    check_stand,
    is_framework,
)

_WRAPPER: Global = ("joblib.numpy_pickle", "NumpyArrayWrapper")
_DTYPE: Global = ("numpy", "dtype")
_MAKERS = {("copyreg", "_reconstructor"), ("copyreg", "__newobj__"), ("copyreg", "__newobj_ex__")}
_CONTAINERS = {"list", "dict", "set", "frozenset", "tuple", "bytes", "bytearray", "str", "int"}
_RANGE: Global = ("builtins", "range")
_WRAPPED = {"subclass", "shape", "order", "dtype", "allow_mmap", "numpy_array_alignment_bytes"}
_UNCALLED = {
    ("numpy", "ndarray"),
    ("numpy", "matrix"),
    ("numpy.ma", "MaskedArray"),
    ("numpy.ma.core", "MaskedArray"),
}
_MAKING = {"copyreg", "_codecs", "joblib.numpy_pickle", "numpy.random._pickle", "pyarrow.lib"}
_DTYPE_CODE = re.compile(r"[<>|=]?(?:[bBhHiIlLqQfdg?]|[biufc]\d{1,2}|[OSUVmM]\d*)", re.ASCII)
_NO_MODEL = "which no model's pickle does"
_HOLDS_OBJECTS = 0b10_1111  # numpy's flags of references, pointers and getitem access


class Refused(pickle.UnpicklingError):
    """The pickle does what no model's pickle does; `found` are the globals up to there.

    `final` says that trust does not help.
    """

    def __init__(self, said: str, found: tuple[Global, ...] = (), *, final: bool = False) -> None:
        super().__init__(said)
        self.found = found
        self.final = final


def _refuse(what: str) -> NoReturn:
    raise Refused(f"{what}, {_NO_MODEL}")


def find_globals(raw: bytes) -> tuple[list[Global], Global | None]:
    """The globals that loading `raw` would import, in order, and what its top object is made of.

    Raises Refused, pickle.UnpicklingError and the other errors of a broken pickle.
    """
    stream = io.BytesIO(raw)
    inspector = _Inspector(stream, len(raw))
    try:
        top = inspector.load()
        _check_kept(top)
        for made in inspector.made:
            check_stand(made)
    except Refused as error:
        error.found = tuple(inspector.found)
        raise
    except ReadsFiles as error:
        raise Refused(str(error), found=tuple(inspector.found), final=True) from error
    except Misuse as error:
        raise Refused(f"{error}, {_NO_MODEL}", found=tuple(inspector.found)) from error
    if stream.tell() != len(raw):
        raise pickle.UnpicklingError("it holds several objects; save each in a file of its own")
    found = list(dict.fromkeys(inspector.found))
    return found, top.of if isinstance(top, Stand) and top.made else None


class _PlainInspector(pickle._Unpickler):
    """Python's own unpickler with every way out closed."""

    stack: list[Any]
    append: Callable[[object], None]
    read: Callable[[int], bytes]
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, stream: io.BytesIO, size: int) -> None:
        super().__init__(stream)
        self.stream = stream
        self.size = size
        self.found: list[Global] = []
        self.made: list[Stand] = []

    def find_class(self, module: str, name: str) -> Stand:
        known = translated(module, name)
        self.found.append(known)
        return Stand(known)

    def get_extension(self, code: int) -> NoReturn:
        _refuse(f"asks for extension {code}")

    def persistent_load(self, pid: object) -> NoReturn:
        _refuse("asks for a persistent object")

    def _call(self, function: object, args: object) -> Stand:
        if not isinstance(function, Stand) or function.made:
            _refuse("calls what it has built itself")
        if not isinstance(args, tuple):
            _refuse("calls without a tuple of arguments")
        of = function.of
        if any(isinstance(arg, Stand) and arg.made and arg.of == _RANGE for arg in args):
            _refuse("spreads out a range")
        if of in _MAKERS:
            if not args or not isinstance(args[0], Stand) or args[0].made:
                _refuse("makes an object without a class")
            of, args = args[0].of, args[1:]
        if of in _UNCALLED or of in _MAKERS:
            _refuse(f"calls {'.'.join(of)} in a strange way")
        _check_call(of, args)
        made = Stand(of, made=True, args=args)
        self.made.append(made)
        return made

    def load_reduce(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], args)

    def load_newobj(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], args)

    def load_newobj_ex(self) -> None:
        kwargs, args = self.stack.pop(), self.stack.pop()
        if kwargs:
            _refuse("makes an object with named arguments")
        self.stack[-1] = self._call(self.stack[-1], args)

    def _instantiate(self, klass: object, args: list[object]) -> None:
        self.append(self._call(klass, tuple(args)))

    def load_build(self) -> None:
        state = self.stack.pop()
        built = self.stack[-1]
        if not isinstance(built, Stand) or not built.made:
            _refuse("sets the state of a class or function")
        if built.of == _DTYPE:
            _check_dtype(built, state)
        elif built.of[1] in ("_reconstruct", "_mareconstruct"):
            _check_array(state)
        elif built.state is not None and (built.of == _WRAPPER or not _is_numpy(built.of)):
            _refuse("describes an object twice")
        slots = state[1] if isinstance(state, tuple) and len(state) == 2 else None
        if isinstance(slots, dict) and any(str(key).startswith("__") for key in slots):
            _refuse("replaces what an object is")
        built.state = state
        built.held.append(state)

    def load_bytearray8(self) -> None:
        size = int.from_bytes(self.read(8), "little")
        if size > self.size:
            _refuse("declares more bytes than it has")
        self.append(bytearray(self.read(size)))

    def _closed(self) -> NoReturn:
        _refuse("asks for buffers from outside")

    for _code, _method in (
        (pickle.REDUCE, load_reduce),
        (pickle.NEWOBJ, load_newobj),
        (pickle.NEWOBJ_EX, load_newobj_ex),
        (pickle.BUILD, load_build),
        (pickle.BYTEARRAY8, load_bytearray8),
        (pickle.NEXT_BUFFER, _closed),
        (pickle.READONLY_BUFFER, _closed),
    ):
        dispatch[_code[0]] = _method
    del _code, _method


class _Inspector(_PlainInspector):
    """The outer pickle of a file, where arrays follow their wrappers."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(_PlainInspector.dispatch)

    def load_build(self) -> None:
        super().load_build()
        built = self.stack[-1]
        if built.of == _WRAPPER:
            self._skip_array(built, built.state)

    dispatch[pickle.BUILD[0]] = load_build

    def _skip_array(self, built: Stand, state: object) -> None:
        """Move past an array's bytes exactly as NumpyArrayWrapper.read_array (joblib 1.4-1.5)."""
        if not isinstance(state, dict) or not set(state) <= _WRAPPED:
            _refuse("describes an array in an unknown way")
        if not _is_dtype(state.get("dtype")):
            _refuse("describes an array in an unknown way")
        shape, dtype = state.get("shape"), state["dtype"]
        if not isinstance(shape, tuple) or any(type(n) is not int or n < 0 for n in shape):
            _refuse("describes an array of an unknown shape")
        if _is_object(dtype):
            inner = _PlainInspector(self.stream, self.size)
            inner.found, inner.made = self.found, self.made
            built.held.append(inner.load())
            return
        if state.get("numpy_array_alignment_bytes") is not None:
            self.stream.read(int.from_bytes(self.stream.read(1), "little"))
        size = math.prod(shape) * _itemsize(dtype)
        if size > self.size - self.stream.tell():
            raise EOFError("it ends in the middle of an array")
        self.stream.seek(size, io.SEEK_CUR)


def _check_kept(top: object) -> None:
    """Refuse a maker that is kept as a value somewhere in what was built."""
    waiting, seen = [top], set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        if isinstance(value, dict):
            waiting.extend((*value.keys(), *value.values()))
        elif isinstance(value, list | tuple | set | frozenset):
            waiting.extend(value)
        elif not isinstance(value, Stand):
            continue
        elif value.made:
            waiting.extend(_kept_by(value))
        elif value.of in _UNCALLED or _is_maker(*value.of):
            _refuse(f"keeps {'.'.join(value.of)}")
        seen.add(id(value))


def _kept_by(made: Stand) -> list[object]:
    module, name = made.of
    if name in ("_reconstruct", "_mareconstruct"):
        return [*made.args[2:], *made.held]  # the first say of which class the array is
    if made.of == _WRAPPER:
        return [part for part in made.held if not isinstance(part, dict)]
    if module == "numpy.random._pickle":
        return made.held  # its arguments are makers, or the names of them
    return [*made.args, *made.held]


def _is_maker(module: str, name: str) -> bool:
    return (
        module in _MAKING
        or name in ("_reconstruct", "scalar", "_frombuffer", "_mareconstruct", "_unpickle_block")
        or name in ("newObj", "_new_Index", "bytearray")
        or name.startswith("__pyx_unpickle_")
    )


def _is_numpy(of: Global) -> bool:
    return of[0].partition(".")[0] == "numpy"


def _check_call(of: Global, args: tuple[Any, ...]) -> None:
    """Arguments of the few callables that could be talked into something."""
    module, name = of
    if of == _DTYPE:
        good = bool(args) and isinstance(args[0], str) and bool(_DTYPE_CODE.fullmatch(args[0]))
    elif of == ("_codecs", "encode"):
        good = len(args) == 2 and isinstance(args[0], str) and args[1] in ("latin1", "latin-1")
    elif of == _WRAPPER:  # protocols 0 and 1 say copyreg._reconstructor(class, object, None)
        good = not args or (len(args) == 2 and args[1] is None)
    elif name == "_reconstruct":
        good = len(args) == 3 and args[1] == (0,)
    elif name == "_mareconstruct":
        good = len(args) == 4 and args[2] == (0,)
    elif name == "_frombuffer":
        good = len(args) > 1 and _is_plain_dtype(args[1])
    elif module == "builtins" and name in _CONTAINERS:  # bytes(n) are n zeros
        good = not (args and type(args[0]) is int and args[0] > 1 << 16)
    else:
        good = True
    if of != _DTYPE and (not _is_maker(module, name) or is_framework(of)):
        check_making(of, args)
    if not good:
        _refuse(f"calls {module}.{name} in a strange way")


def _is_object(dtype: Stand) -> bool:
    return bool(dtype.args) and dtype.args[0].lstrip("<>|=")[:1] == "O"


def _itemsize(dtype: Stand) -> int:
    code = dtype.args[0]
    flexible = code.lstrip("<>|=")[:1] in ("V", "S", "U")
    size = dtype.state[5] if flexible and dtype.state is not None else np.dtype(code).itemsize
    if type(size) is not int or size <= 0:
        _refuse("describes an array of items without a size")
    return size


def _check_dtype(dtype: Stand, state: object) -> None:
    """Refuse a dtype whose state says anything else than its name; both steer raw memory."""
    if not isinstance(state, tuple) or len(state) < 8 or state[0] not in (3, 4):
        _refuse("describes a dtype in an unknown way")
    if tuple(map(bool, dtype.args[1:])) != (False, True):
        _refuse("changes a dtype that is not its own")
    code = dtype.args[0].lstrip("<>|=")
    order, subarray, names, fields, itemsize, _, flags = state[1:8]
    if order not in ("<", ">", "|", "="):
        _refuse("describes a dtype of unknown byte order")
    if code[0] == "V":
        within = _holds(fields, names, itemsize) and _repeats(subarray, itemsize)
        if not within or type(flags) is not int or flags & _HOLDS_OBJECTS:
            _refuse("describes a record that reaches into other memory")
        return
    real = np.dtype(code)
    sized = itemsize == real.itemsize if code[0] in "SU" else itemsize == -1
    if (subarray, names, fields) != (None, None, None) or not sized or flags != real.flags:
        _refuse("describes a dtype that is not what it is called")


def _holds(fields: object, names: object, itemsize: object) -> bool:
    """Whether a record of `itemsize` bytes holds all its `fields`, none of them objects."""
    if fields is None and names is None:
        return type(itemsize) is int
    if not isinstance(fields, dict) or type(itemsize) is not int:
        return False
    return all(
        isinstance(part, tuple)
        and _is_plain_dtype(part[0])
        and type(part[1]) is int
        and 0 <= part[1] <= itemsize - _itemsize(part[0])
        for part in fields.values()
    )


def _repeats(subarray: object, itemsize: object) -> bool:
    """Whether a sub-array fills exactly `itemsize` bytes."""
    if subarray is None:
        return True
    if not isinstance(subarray, tuple) or len(subarray) != 2 or not _is_plain_dtype(subarray[0]):
        return False
    shape = subarray[1] if isinstance(subarray[1], tuple) else (subarray[1],)
    if any(type(n) is not int or n < 0 for n in shape):
        return False
    return bool(math.prod(shape) * _itemsize(subarray[0]) == itemsize)


def _is_dtype(found: object) -> TypeGuard[Stand]:
    return isinstance(found, Stand) and found.made and found.of == _DTYPE


def _is_plain_dtype(found: object) -> TypeGuard[Stand]:
    return _is_dtype(found) and not _is_object(found)


def _check_array(state: object) -> None:
    """Refuse an array of objects that is longer than its list: numpy reads on behind the list."""
    if not isinstance(state, tuple) or len(state) < 4:
        _refuse("describes an array in an unknown way")
    for shape, values in zip(state, state[3:], strict=False):
        if isinstance(values, list) and (
            not isinstance(shape, tuple)
            or any(type(n) is not int or n < 0 for n in shape)
            or math.prod(shape) != len(values)
        ):
            _refuse("describes an array of another size than its values")
