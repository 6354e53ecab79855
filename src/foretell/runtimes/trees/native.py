"""Native code is the kernel as the processor runs it: compiled once, kept on disk, and called.

Rules:

1. numba compiles the kernel, which takes seconds, and is not imported where that was done before:
   LLVM alone, in a twentieth of a second, makes a file of machine code ready to be called.
2. Such a file is for one processor, one pair of dtypes, and one version of all that made it; its
   name says so. It begins with the digest of the rest: one that was damaged is made anew.
3. It lies where Python keeps its own compiled files of this folder, else in the user's cache
   folder. Where neither can be written to, each process compiles for itself; so it does where
   numba is set to compile otherwise than usual.
4. What numba adds to the kernel for the case of an error or of an array it would have to free is
   left out, since the kernel has neither: what is kept asks for nothing that is numba's.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import importlib.util
import logging
import os
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from foretell.core.field import Array
from foretell.errors import MissingExtra
from foretell.runtimes.trees.layout import Packed, block_rows, dtypes_of

_NAME = "foretell_tree_sums"
_SOURCES = ("kernel.py", "layout.py", "native.py")
_NOT_KEPT = "compiled trees are not kept, so each process compiles them, for seconds"
_DIGEST_BYTES = 32
_ALIGNED = 64
_MATRIX, _OUT, _MEMORY = 19, 20, 21
"""The rows of the kernel's table behind those of `Packed`."""
_NUMBAS = re.compile(r"^(?:numba_|NRT_|_?Py)")
_DECLARED = re.compile(r"^declare (?P<what>[^@\n]*@(?P<name>[\w.]+)\(.*?)(?: #\d+)?$", re.MULTILINE)
_DATA = re.compile(r"^(?P<name>@_?Py\w+) = external.* global (?P<type>\S+)$", re.MULTILINE)

_log = logging.getLogger("foretell.runtimes")
_one_at_a_time = threading.Lock()


def _forked() -> None:
    global _one_at_a_time  # noqa: PLW0603 - a lock is not made anew in its place
    _one_at_a_time = threading.Lock()  # whoever held it is not in this process


os.register_at_fork(after_in_child=_forked)


class Sums:
    """The sums of the trees that `packed` holds; many threads may ask at once.

    It lets other threads run meanwhile.
    """

    def __init__(self, packed: Packed) -> None:
        self._number, split = packed.start.dtype, packed.split.dtype
        dtypes = dtypes_of(split, self._number)
        self._arrays = [_plain(*each) for each in zip(packed, dtypes, strict=True)]
        self._n_targets = len(packed.start)
        # leaves alone look at a column, too, whatever is in it
        block, width = block_rows(packed), max(len(packed.at_top), 1)
        # trees that end in their first three levels are not walked
        walked = block if packed.depth.max() > 0 else 0
        shapes = [(width, block), (walked, width), (block, 1), (block, 1), (self._n_targets, block)]
        sizes = [split.itemsize, split.itemsize, 8, 8, self._number.itemsize]
        ends = np.cumsum(
            [
                -(-rows * columns * size // _ALIGNED) * _ALIGNED
                for (rows, columns), size in zip(shapes, sizes, strict=True)
            ]
        )
        self._memory = int(ends[-1])
        told = [_told(array) for array in self._arrays]
        told += [(0, 0, 0), (0, 0, self._n_targets)]
        told += [(int(place), *shape) for place, shape in zip([0, *ends], shapes, strict=False)]
        self._told = np.array(told, np.int64)
        self._run = _ready(split.name, self._number.name)

    def __call__(self, matrix: Array) -> Array:
        """[N, targets] of `matrix` [N, columns], which has all columns that are asked for."""
        matrix = _plain(matrix, np.float64)
        out = np.empty((len(matrix), self._n_targets), self._number)
        memory = np.empty(self._memory, np.uint8)
        told = self._told.copy()
        told[_MATRIX] = _told(matrix)
        told[_OUT] = _told(out)
        told[_MEMORY:, 0] += _address(memory)
        self._run(_address(told))
        return out


def _plain(array: Array, dtype: Any) -> Array:
    """`array` as compiled code takes it: it does not look how numbers lie."""
    return np.require(array, dtype, ["C", "A"])


def _told(array: Array) -> tuple[int, int, int]:
    """What the kernel is told of an array: its address, its length, its width."""
    return _address(array), array.shape[0], array.shape[1] if array.ndim > 1 else 1


def _address(array: Array) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


@functools.cache
def _ready(split: str, number: str) -> Callable[[int], None]:
    """The kernel for these dtypes. Raises MissingExtra when it cannot be compiled."""
    with _one_at_a_time:
        machine = _machine()
        name = _file_name(split, number, machine)
        code = _kept(name)
        if code is None:
            code = _made(name, split, number, machine)
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        _engines.append(engine)
        return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(engine.get_function_address(_NAME))


_engines: list[Any] = []
"""Machine code lies in their memory, as long as the process lives."""


def _machine() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=_features(), opt=3, codemodel="jitdefault", jit=True
    )


def _features() -> str:
    try:
        features: str = llvm.get_host_cpu_features().flatten()
    except RuntimeError:  # LLVM knows them of some kinds of processors only
        return ""
    return features


def _made(name: str, split: str, number: str, machine: Any) -> bytes:
    """Machine code with one function, `_NAME`, compiled now, and kept. Raises MissingExtra."""
    try:
        from foretell.runtimes.trees import kernel

        code = _object(*kernel.compiled(np.dtype(split).type, np.dtype(number).type), machine)
    except ImportError as error:
        raise MissingExtra(f"install foretell[bulk]: trees need numba ({error})") from error
    except Exception as error:  # of numba and LLVM: another release of theirs may raise anything
        why = (str(error).strip() or repr(error)).splitlines()[0]
        raise MissingExtra(
            f"numba {version('numba')} does not compile trees ({why}); foretell[bulk] needs one "
            "that does"
        ) from error
    if told := kernel.unusual():
        _log.warning("%s, since numba is set otherwise: %s", _NOT_KEPT, ", ".join(told))
    else:
        _keep(name, code)
    return code


def _object(text: str, entry: str, machine: Any) -> bytes:
    """An object file of LLVM's `text`. Raises RuntimeError when it asks for what there is not."""
    module = llvm.parse_assembly(_sealed(text))
    for part in (*module.functions, *module.global_variables):
        if part.name == entry:
            part.name = _NAME
        elif not part.is_declaration:
            part.linkage = "internal"
        elif not part.name.startswith("llvm."):
            raise RuntimeError(f"the compiled trees ask for {part.name}, which there is not")
    module.verify()
    code: bytes = machine.emit_object(module)
    return code


def _sealed(text: str) -> str:
    """LLVM's `text` without what is numba's and Python's: what asks for them is never reached."""

    def trap(found: re.Match[str]) -> str:
        if not _NUMBAS.match(found["name"]):
            return found[0]
        return f"define {found['what']} {{ call void @llvm.trap() unreachable }}"

    text = _DATA.sub(r"\g<name> = internal global \g<type> zeroinitializer", text)
    return _DECLARED.sub(trap, text) + "\ndeclare void @llvm.trap()\n"


def _file_name(split: str, number: str, machine: Any) -> str:
    """A name that no other code has."""
    told = [machine.triple, llvm.get_host_cpu_name(), _features(), split, number]
    told += [version(name) for name in ("llvmlite", "numba")]
    try:
        told += [Path(__file__).with_name(name).read_text() for name in _SOURCES]
    except OSError:  # they are not installed
        told.append(version("foretell"))
    return f"trees-{hashlib.sha256(repr(told).encode()).hexdigest()[:32]}.bin"


def _folders() -> Iterator[Path]:
    """Where compiled code is kept, best first."""
    with contextlib.suppress(NotImplementedError):  # Python keeps nothing
        yield Path(importlib.util.cache_from_source(__file__)).parent
    with contextlib.suppress(RuntimeError):  # nobody's home
        yield Path.home() / ".cache" / "foretell"


def _kept(name: str) -> bytes | None:
    for folder in _folders():
        try:
            data = (folder / name).read_bytes()
        except OSError:
            continue
        digest, code = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        if hashlib.sha256(code).digest() == digest:
            return code
        _log.warning("the compiled trees in %s are damaged: they are made anew", folder / name)
    return None


def _keep(name: str, code: bytes) -> None:
    failed = []
    for folder in _folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            beside = folder / f"{name}.{uuid.uuid4().hex}"
            try:
                beside.write_bytes(hashlib.sha256(code).digest() + code)
                beside.replace(folder / name)
            finally:
                beside.unlink(missing_ok=True)
        except OSError as error:
            failed.append(str(error))
        else:
            return
    _log.warning("%s: %s; name a folder in PYTHONPYCACHEPREFIX", _NOT_KEPT, "; ".join(failed))
