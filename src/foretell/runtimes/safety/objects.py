"""What a model's objects may hold, so that what is allowed one by one does no harm together.

Rules:

1. A class is made empty, as its own pickle makes it, and then given its state. The few Cython
   classes that pickle their arguments are listed, each with what it may be called with.
2. An estimator calls what it keeps. So functions stand only in the slots for functions, only
   estimators in the slots for estimators, scorers only where models are scored.
3. An estimator looks methods up by names it keeps: they are the names of predicting methods.
4. No vectorizer reads files: its clients would choose which.

The same rules judge a pickle's stands before it is loaded and the loaded objects (skops' too).
"""

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeGuard

import numpy as np

from foretell.runtimes.safety import allowlist as slots
from foretell.runtimes.safety.allowlist import is_function

Global = tuple[str, str]

_FRAMEWORKS = ("sklearn", "xgboost", "lightgbm", "scipy")
_MODELS = ("sklearn", "xgboost", "lightgbm")
_PLAIN = (type(None), bool, int, float, complex, str, bytes, bytearray, slice, np.generic)
_NO_BASE: tuple[Global, None] = (("builtins", "object"), None)
_TRIPLET: Global = ("sklearn.impute._iterative", "_ImputerTriplet")
_NA: Global = ("pandas", "NA")
_BUNCH: Global = ("sklearn.utils._bunch", "Bunch")
_PARTIAL: Global = ("functools", "partial")
_TREES = {"sklearn.neighbors._ball_tree": "BallTree", "sklearn.neighbors._kd_tree": "KDTree"}
_METRICS = "sklearn.metrics._dist_metrics"
_TEXT = "sklearn.feature_extraction.text"
_SCORER = "sklearn.metrics._scorer"
_IMPORTANCE = re.compile(r"auto|(?:[A-Za-z]\w*\.)*(?:coef_|feature_importances_)", re.ASCII)


class Stand:
    """What stands in for a global (`made` False) or for something built from one.

    `held` is whatever was put into it later: states, items, keys.
    """

    __slots__ = ("args", "held", "made", "of", "state")

    def __init__(self, of: Global, *, made: bool = False, args: tuple[Any, ...] = ()) -> None:
        self.of = of
        self.made = made
        self.args = args
        self.held: list[object] = []
        self.state: Any = None

    def _filled(self, *parts: object) -> None:
        if not self.made:
            raise Misuse("fills a class or function")
        if is_framework(self.of) and self.of != _BUNCH:
            raise Misuse(f"fills a {self.of[1]} like a list")
        self.held.extend(parts)

    append = extend = add = __setitem__ = _filled


class Misuse(ValueError):
    """What an object was given that no model gives it."""


class ReadsFiles(Misuse):
    """A vectorizer that opens the files its clients name; trust does not change that."""

    def __init__(self, kind: str, value: object) -> None:
        super().__init__(
            f"holds a {kind}(input={_shown(value)}): every client could read the server's files "
            'by their names; fit it with input="content"'
        )


def is_framework(of: Global) -> bool:
    """Whether `of` belongs to a framework whose classes are allowed as a whole."""
    return of[0].partition(".")[0] in _FRAMEWORKS


def check_making(of: Global, args: tuple[Any, ...]) -> None:
    """Refuse a call of `of` that does more than make an empty object or a plain value."""
    if of == _PARTIAL:
        good = len(args) == 1 and _is_name(args[0]) and is_function(*args[0].of)
    elif is_framework(of):
        listed = _ARGUMENTS.get(_listed(of))
        good = _makes_empty(of, args) or (listed is not None and listed(of, args))
    elif of == ("collections", "defaultdict"):
        factory = args[0] if args else None
        good = factory is None or (_is_name(factory) and factory.of[0] in ("builtins", of[0]))
    elif of[0] == "numpy" and of[1] != "dtype":
        good = isinstance(vars(np).get(of[1]), type) and not any(map(_does, args))
    else:
        good = not any(map(_does, args))
    if not good:
        raise Misuse(f"calls {'.'.join(of)} with arguments")


def _makes_empty(of: Global, args: tuple[Any, ...]) -> bool:
    if of[1][:1].islower() and of[1] != "make_column_selector" and of[1] not in _sparse_names():
        return False  # functions are kept, never called
    if not args:
        return True
    return len(args) == 2 and isinstance(args[0], Stand) and (args[0].of, args[1]) == _NO_BASE


@functools.cache
def _sparse_names() -> frozenset[str]:
    kinds = ("csr", "csc", "coo", "bsr", "dia", "lil", "dok")
    return frozenset(f"{kind}_{end}" for kind in kinds for end in ("matrix", "array")) | {
        "interp1d"
    }


def _listed(of: Global) -> str:
    module, name = of
    if name.startswith("__pyx_unpickle_"):
        return "__pyx_unpickle_"
    if name == "newObj":
        return name
    if module in ("sklearn._loss._loss", "sklearn.linear_model._sgd_fast"):
        return "loss"
    return f"{module}.{name}"


def _restores(of: Global, args: tuple[Any, ...]) -> bool:
    named = _is_name(args[0]) and args[0].of == (of[0], of[1].removeprefix("__pyx_unpickle_"))
    plain = len(args) == 3 and type(args[1]) is int and isinstance(args[2], tuple | None)
    return named and plain and not any(map(_does, args[2] or ()))


def _is_tree_class(of: Global, args: tuple[Any, ...]) -> bool:
    """newObj(class) of the module's own trees or metrics, none that calls back into Python."""
    if len(args) != 1 or not _is_name(args[0]) or args[0].of[0] != of[0]:
        return False
    name = args[0].of[1]
    if of[0] == _METRICS:
        return name.rstrip("0123456789").endswith("Distance") and not name.startswith("PyFunc")
    return name.startswith(_TREES.get(of[0], " "))


def _is_triplet(of: Global, args: tuple[Any, ...]) -> bool:
    if len(args) == 2 and isinstance(args[1], tuple) and _is_name(args[0]):
        if args[0].of != ("builtins", "tuple"):
            return False
        args = args[1]
    if len(args) != 3 or any(map(_does, args[:2])):
        return False
    return args[2] is None or _object_of(args[2]) is not None


_ARGUMENTS: dict[str, Callable[[Global, tuple[Any, ...]], bool]] = {
    "__pyx_unpickle_": _restores,
    "newObj": _is_tree_class,
    "loss": lambda of, args: len(args) == 1 and _is_number(args[0]),
    "sklearn.tree._tree.Tree": lambda of, args: (
        [type(arg) for arg in args] == [int, Stand, int] and args[1].of[1] != of[1]
        and not _does(args[1])
    ),
    "sklearn.utils._bunch.Bunch": lambda of, args: (
        len(args) == 2 and _is_name(args[0]) and args[0].of == ("builtins", "dict")
        and isinstance(args[1], dict)
    ),
    "sklearn.impute._iterative._ImputerTriplet": _is_triplet,
}  # fmt: skip


def _is_number(value: object) -> bool:
    return type(value) in (int, float) or (
        isinstance(value, Stand) and value.made and value.of[1] == "scalar"
    )


def _is_name(value: object) -> TypeGuard[Stand]:
    return isinstance(value, Stand) and not value.made


def _does(value: object) -> bool:
    """Whether somewhere in `value` is an object or a function that could do something."""
    return any(
        _object_of(leaf) is not None or _partial_of(leaf) is not None or _names(leaf)
        for leaf in _leaves(value)
    )


def check_stand(made: Stand) -> None:
    """Refuse an object of a pickle by what was put into it."""
    state = made.state
    if made.of == _PARTIAL:
        _check_partial(made)
    elif not is_framework(made.of) or state is None:
        return
    elif isinstance(state, dict):
        _check_slots(made.of, state)
    elif made.of[1] == "newObj" and isinstance(state, tuple):
        metrics = [_object_of(leaf) for leaf in _leaves(state)]
        if any(_names(leaf) or _partial_of(leaf) is not None for leaf in _leaves(state)) or any(
            found not in (None, (_METRICS, "newObj")) for found in metrics
        ):
            raise Misuse(f"gives a {made.of[0]} a function to call")
    elif not made.of[1].startswith("__pyx_unpickle_") or _does(state):
        raise Misuse(f"gives a {made.of[1]} more than its attributes")


def _check_partial(made: Stand) -> None:
    state = made.state
    good = state is None or (
        isinstance(state, tuple)
        and len(state) == 4
        and isinstance(state[0], Stand)
        and state[0].of == made.args[0].of
        and not state[0].made
        and state[1] == ()
        and not state[3]
        and isinstance(state[2], dict | None)
        and not any(_objects_in(value) for value in (state[2] or {}).values())
    )
    if not good:
        raise Misuse("keeps a function with objects as its arguments")


def _objects_in(value: object) -> bool:
    return any(
        _object_of(leaf) is not None
        or _partial_of(leaf) is not None
        or (_names(leaf) and _global_of(leaf)[0] not in ("numpy", "builtins"))
        for leaf in _leaves(value)
    )


def _check_slots(of: Global, state: dict[Any, Any]) -> None:
    kind = of[1]
    for key, value in state.items():
        if type(key) is not str or key.startswith("__"):
            raise Misuse(f"replaces what a {kind} is")
        if key == "input" and of[0] == _TEXT and value != "content":
            raise ReadsFiles(kind, value)
        if key in slots.METHOD_KEYS and not _are_methods(value):
            raise Misuse(f"has a {kind} call {_shown(value)} as its {key}")
        if key == "importance_getter" and not (
            isinstance(value, str) and _IMPORTANCE.fullmatch(value)
        ):
            raise Misuse(f"has a {kind} look up {_shown(value)}")
        if key in slots.COLUMNS:
            _check_columns(kind, key, value)
            continue
        for leaf in _leaves(value):
            _check_leaf(kind, key, leaf)


def _are_methods(value: object) -> bool:
    leaves = list(_leaves(value))
    return all(leaf is None or isinstance(leaf, str) for leaf in leaves) and (
        {*leaves, None} <= {*slots.METHODS, None}
    )


def _shown(value: object) -> str:
    return ascii(value)[:80] if isinstance(value, str | list | tuple) else "an object"


def _check_leaf(kind: str, key: str, leaf: object) -> None:
    found = _object_of(leaf)
    if found is not None:
        if found[0] == _SCORER and key not in slots.SCORERS:
            raise Misuse(f"gives a {kind} a scorer as its {key}")
        kernel = key == "kernel" and found[0] == "sklearn.gaussian_process.kernels"
        if key in slots.PARAMETERS | slots.FUNCTIONS and not kernel:
            raise Misuse(f"gives a {kind} an object to call as its {key}")
    elif _partial_of(leaf) is not None:
        if key not in slots.PARTIALS:
            raise Misuse(f"gives a {kind} a function to call as its {key}")
    elif _names(leaf):
        if not (
            (key in slots.FUNCTIONS and is_function(*_global_of(leaf)))
            or (key in slots.TYPES and _global_of(leaf)[0] in ("numpy", "builtins"))
        ):
            raise Misuse(f"gives a {kind} {'.'.join(_global_of(leaf))} as its {key}")
    elif key in slots.ESTIMATORS and not _is_plain(leaf):
        raise Misuse(f"gives a {kind} what is no estimator as its {key}")


def _check_columns(kind: str, key: str, value: object) -> None:
    """(name, estimator, columns): only the columns may be arrays."""
    rows = _members(value)
    for row in [value] if rows is None else rows:
        parts = row if isinstance(row, list | tuple) else [row]
        for place, part in enumerate(parts):
            name = "columns" if place == 2 else "estimators"
            for leaf in _leaves(part):
                found = _object_of(leaf)
                if place == 2 and found and found[1] != "make_column_selector":
                    raise Misuse(f"gives a {kind} an object as the columns of its {key}")
                _check_leaf(kind, name, leaf)


def _is_plain(leaf: object) -> bool:
    if isinstance(leaf, Stand):
        return leaf.of == _NA or (
            leaf.made and leaf.of[1] in ("scalar", "encode", "slice", "bytes")
        )
    return isinstance(leaf, _PLAIN)


def _object_of(value: object) -> Global | None:
    """The class of a framework's object, or None when `value` is something else."""
    if isinstance(value, Stand):
        inside = value.made and value.of[0].partition(".")[0] in _MODELS
        return value.of if inside else None
    kind = type(value)
    if kind.__module__.partition(".")[0] in _MODELS and not _names(value):
        return kind.__module__, kind.__qualname__
    return None


def _partial_of(value: object) -> object | None:
    if isinstance(value, Stand):
        return value if value.made and value.of == _PARTIAL else None
    return value if isinstance(value, functools.partial) else None


def _names(value: object) -> bool:
    if isinstance(value, Stand):
        return not value.made and value.of != _NA
    return isinstance(value, type | np.ufunc) or type(value).__name__ in (
        "function", "builtin_function_or_method", "method", "cython_function_or_method",
        "_ArrayFunctionDispatcher", "cyfunction",
    )  # fmt: skip


def _global_of(value: Any) -> Global:
    if isinstance(value, Stand):
        return value.of
    if isinstance(value, np.ufunc):
        module = "numpy" if vars(np).get(value.__name__) is value else "scipy.special"
        return module, value.__name__
    return str(value.__module__), str(value.__name__)


def _members(value: object) -> list[object] | None:
    """What is inside of a container, or None when `value` is none."""
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if isinstance(value, np.ndarray) and value.dtype == object:
        return value.ravel().tolist()
    if not isinstance(value, Stand) or not value.made:
        return None
    if value.of in (_BUNCH, _TRIPLET):
        return [*(part for part in value.args if not _is_name(part)), *value.held]
    if value.of[1] in ("_reconstruct", "_mareconstruct"):
        lists = [part for part in value.state or () if isinstance(part, list)]
        return [item for part in lists for item in part] if lists else None
    if value.of[1] == "NumpyArrayWrapper":
        return [part for part in value.held if not isinstance(part, dict)] or None
    if value.of[0] in ("builtins", "collections") and value.of[1] not in ("slice", "bytes"):
        return [*(part for part in value.args if not _is_name(part)), *value.held]
    return None


def _leaves(value: object) -> Iterator[object]:
    waiting, seen = [value], set()
    while waiting:
        part = waiting.pop()
        inside = _members(part)
        if inside is None:
            yield part
        elif id(part) not in seen:
            seen.add(id(part))
            waiting.extend(inside)


def check_loaded(top: object, *, trusted: bool) -> None:
    """Refuse what the loaded estimator `top` holds; of a trusted one only the reading of files."""
    waiting, seen = [top], set()
    while waiting:
        for part in _leaves(waiting.pop()):
            of = _object_of(part)
            if id(part) in seen or (of is None and not (trusted and hasattr(part, "get_params"))):
                continue
            seen.add(id(part))
            state = dict(getattr(part, "__dict__", {}))
            if any(kind.__module__ == _TEXT for kind in type(part).__mro__):
                reads = state.get("input", "content")
                if reads != "content":
                    raise ReadsFiles(type(part).__name__, reads)
            if of is not None and of[0] in _TREES:
                state = {"_tree": part.__getstate__()}
            if of is not None and of[1].startswith("PyFunc"):
                raise Misuse("measures distances by a function of its own")
            if of is not None and of[0] not in _TREES and not trusted:
                _check_slots(of, state)
            waiting.append(list(state.values()))
