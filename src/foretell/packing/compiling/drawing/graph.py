"""A graph is an ONNX model in the making: tensors by name, operators one after the other.

Rules:

1. Arithmetic is float64 unless the original's is not: a float32 appears only where it casts.
2. A tensor of columns remembers which raw column each of its columns is an affine image of
   (`Origin`), so that a threshold on it can be told as values of that raw column (`Cut`).
3. What cannot be drawn faithfully raises Unfaithful, saying why; nothing is approximated.

Operators: https://onnx.ai/onnx/operators/ (opset 21) and the domain ai.onnx.ml (version 5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from foretell.core.field import Array
from foretell.errors import MissingExtra

OPSET, ML_OPSET, IR_VERSION = 21, 5, 10
MISSING_CODE = 1
"""The code of a missing text; 0 is that of one the graph does not know, the others follow."""

ML = "ai.onnx.ml"


class Unfaithful(Exception):
    """The original does something that this graph cannot say; the message names it."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A column that is `scale * raw + offset` of the raw column `column`."""

    column: int
    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class Cut:
    """One threshold of a tree on one column, `single` where float32 values are compared.

    `path` are the columns that must lie in intervals (low, high] for a row to come there.
    """

    origin: Origin
    threshold: float
    single: bool = False
    path: tuple[tuple[Origin, float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor [N, width] of a graph; `origins` has an entry a column.

    Texts are int64 codes inside a graph; `words` say which of its columns of texts each one is.
    """

    name: str
    dtype: np.dtype[Any]
    origins: tuple[Origin | None, ...]
    words: tuple[int, ...] = ()

    @property
    def width(self) -> int:
        return len(self.origins)

    @property
    def is_text(self) -> bool:
        return self.dtype.kind == "O"


def onnx_module() -> Any:
    """The module `onnx`. Raises MissingExtra."""
    try:
        import onnx
    except ImportError as error:
        raise MissingExtra("install foretell[compile] to compile models: onnx is missing") from (
            error
        )
    return onnx


@dataclass(frozen=True, slots=True)
class _Lookup:
    """A dictionary that was drawn: what became of which codes."""

    codes: str
    table: Mapping[int, float | int]
    default: float | int


@dataclass(slots=True)
class Graph:
    """Nodes, constants and inputs, named in order of their making; `seed` picks the cuts.

    `words` are the texts that the graph knows, by column of texts: what it is fed are their codes
    (`code`), because ONNX's texts cost more than all the rest, and have no missing value. For the
    same reason a prediction that is a text leaves it as the place of that in `labels`.
    """

    seed: int = 0
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    cuts: list[Cut] = field(default_factory=list)
    words: list[list[str]] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    _codes: list[dict[str | None, int]] = field(default_factory=list)
    _hot: dict[str, str] = field(default_factory=dict)
    _joined: dict[str, tuple[Tensor, ...]] = field(default_factory=dict)
    _picked: dict[str, tuple[Tensor, tuple[int, ...]]] = field(default_factory=dict)
    _lookups: dict[str, _Lookup] = field(default_factory=dict)
    _known: dict[tuple[Any, ...], str] = field(default_factory=dict)
    _columns: dict[str, str] = field(default_factory=dict)
    _flats: dict[str, str] = field(default_factory=dict)

    def input(self, name: str, dtype: np.dtype[Any], width: int) -> None:
        """Declare an input [N, width]."""
        helper = onnx_module().helper
        self.inputs.append(helper.make_tensor_value_info(name, onnx_type(dtype), [None, width]))

    def texts(self, name: str, width: int) -> Tensor:
        """Declare an input of the codes of texts, [N, width]."""
        self.input(name, np.dtype(np.int64), width)
        self.words = [[] for _ in range(width)]
        self._codes = [{None: MISSING_CODE} for _ in range(width)]
        return Tensor(name, np.dtype(object), (None,) * width, tuple(range(width)))

    def code(self, column: Tensor, text: str | None) -> int:
        """The code of a text, or of a missing one, in the one column of `column`."""
        (place,) = column.words
        known = self._codes[place]
        if text not in known:
            self.words[place].append(str(text))
            known[text] = MISSING_CODE + len(self.words[place])
        return known[text]

    def output(self, name: str, source: str, dtype: np.dtype[Any], sizes: Sequence[int]) -> None:
        """Declare the tensor `source` as the output `name` of shape [N, *sizes].

        A column that was only made flat for this is declared as the column [N, 1] that it was:
        its runtime reads both alike, and every node costs a row.
        """
        helper = onnx_module().helper
        shape = [None, *sizes]
        if source in self._columns:
            source, shape = self._columns[source], [None, 1]
        self.nodes.append(helper.make_node("Identity", [source], [name]))
        self.outputs.append(helper.make_tensor_value_info(name, onnx_type(dtype), shape))

    def constant(self, value: Any, dtype: Any = None) -> str:
        """The name of a constant: an array, a number, or texts."""
        array = np.asarray(value, dtype=dtype)
        if array.dtype.kind in "UO":
            key: tuple[Any, ...] = ("text", array.shape, tuple(array.ravel().tolist()))
        else:
            key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            name = self._known[key] = f"c{len(self.constants)}"
            self.constants.append(constant_tensor(name, array))
        return self._known[key]

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """The name of the first output of a new node."""
        name = f"t{len(self.nodes)}"
        made = onnx_module().helper.make_node(
            kind, list(inputs), [name], domain=domain, **attributes
        )
        self.nodes.append(made)
        return name

    def top(self, values: str, count: int, *, largest: bool) -> tuple[str, str]:
        """The `count` extreme values of each row, and their places."""
        names = [f"t{len(self.nodes)}", f"t{len(self.nodes)}i"]
        helper = onnx_module().helper
        many = self.constant([count], np.int64)
        self.nodes.append(helper.make_node("TopK", [values, many], names, largest=int(largest)))
        return names[0], names[1]

    def cast(self, tensor: Tensor, dtype: Any) -> Tensor:
        """`tensor` in another dtype; itself when it has it already."""
        wanted = np.dtype(dtype)
        if tensor.dtype == wanted:
            return tensor
        return Tensor(self.cast_name(tensor.name, wanted), wanted, tensor.origins)

    def cast_name(self, name: str, dtype: Any) -> str:
        """The tensor `name` cast to `dtype`."""
        return self.op("Cast", name, to=onnx_type(np.dtype(dtype)))

    def pick(self, tensor: Tensor, places: Sequence[int]) -> Tensor:
        """The columns of `tensor` at `places`, in that order."""
        chosen = [int(place) for place in places]
        if chosen == list(range(tensor.width)):
            return tensor
        name = self.op("Gather", tensor.name, self.constant(chosen, np.int64), axis=1)
        origins = tuple(tensor.origins[place] for place in chosen)
        words = tuple(tensor.words[place] for place in chosen) if tensor.words else ()
        self._picked[name] = tensor, tuple(chosen)
        return Tensor(name, tensor.dtype, origins, words)

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """`parts` of one dtype side by side."""
        kept = [part for part in parts if part.width]
        if len(kept) == 1:
            return kept[0]
        if not kept:
            raise Unfaithful("a step makes no column at all")
        picked = [self._picked[part.name] for part in kept if part.name in self._picked]
        if len(picked) == len(kept) and len({tensor.name for tensor, _ in picked}) == 1:
            return self.pick(picked[0][0], [place for _, places in picked for place in places])
        name = self.op("Concat", *(part.name for part in kept), axis=1)
        self._joined[name] = tuple(kept)
        return Tensor(name, kept[0].dtype, tuple(o for part in kept for o in part.origins))

    def hot(self, codes: str, width: int, dtype: Any) -> Tensor:
        """One-hot columns of the codes [N, 1] from 0 on; a code of -1 has none."""
        spots = self.constant(np.arange(width).reshape(1, -1), np.int64)
        name = self.cast_name(self.op("Equal", codes, spots), dtype)
        self._hot[name] = codes
        return Tensor(name, np.dtype(dtype), (None,) * width)

    def lookup(self, codes: str, table: Mapping[int, float | int], default: float | int) -> str:
        """Codes [N, 1] of texts, through a dictionary into float64 or int64."""
        dtype = np.dtype(np.float64 if isinstance(default, float) else np.int64)
        keys = constant_tensor("keys", np.array(list(table), dtype=np.int64))
        values = constant_tensor("values", np.array(list(table.values()), dtype=dtype))
        rest = constant_tensor("default", np.array([default], dtype=dtype))
        tables = {"keys_tensor": keys, "values_tensor": values, "default_tensor": rest}
        name = self.op("LabelEncoder", codes, domain=ML, **tables)
        self._lookups[name] = _Lookup(codes, table, default)
        return name

    def _chosen(self, codes: str, rows: Array) -> str:
        """The row of `rows` [k, m] for each of the one-hot `codes` [N, 1], zeros for -1."""
        table = np.vstack([rows, np.zeros((1, rows.shape[1]))])  # the last one is that of -1
        made = self._lookups.get(codes)
        if rows.shape[1] == 1 and made is not None:  # one dictionary in place of two
            weights = {key: float(table[int(place), 0]) for key, place in made.table.items()}
            return self.lookup(made.codes, weights, float(table[int(made.default), 0]))
        places = self.reshape(codes, -1)
        return self.op("Gather", self.constant(table, np.float64), places, axis=0)

    def product(self, tensor: str, weights: Array) -> str:
        """`tensor` [N, k] times `weights` [k, m], float64.

        Of one-hot columns only the row of `weights` that they choose is added: to multiply the
        others by 0 would take longer than all the rest.
        """
        parts = self._parts(tensor, len(weights))
        if not any(name in self._hot for name, _ in parts):
            return self.op("MatMul", tensor, self.constant(weights, np.float64))
        plain: list[tuple[str, Array]] = []
        terms: list[str] = []
        start = 0
        for name, width in parts:
            rows = weights[start : start + width]
            start += width
            if name not in self._hot:
                plain.append((name, rows))
                continue
            terms.append(self._chosen(self._hot[name], rows))
        if plain:
            names = [name for name, _ in plain]
            one = names[0] if len(names) == 1 else self.op("Concat", *names, axis=1)
            rows = np.vstack([rows for _, rows in plain])
            terms.insert(0, self.op("MatMul", one, self.constant(rows, np.float64)))
        total = terms[0]
        for term in terms[1:]:
            total = self.op("Add", total, term)
        return total

    def _parts(self, tensor: str, width: int) -> list[tuple[str, int]]:
        """The tensors that were joined to make this one, and their widths."""
        if tensor not in self._joined:
            return [(tensor, width)]
        joined = self._joined[tensor]
        return [one for part in joined for one in self._parts(part.name, part.width)]

    def reshape(self, name: str, *sizes: int) -> str:
        """`name` in shape `sizes`, -1 the number of rows."""
        return self.op("Reshape", name, self.constant(sizes, np.int64))

    def flat(self, column: str) -> str:
        """The column [N, 1] called `column` as [N]: what a number is added to ten times as fast."""
        if column not in self._flats:
            self._flats[column] = self.reshape(column, -1)
            self._columns[self._flats[column]] = column
        return self._flats[column]

    def column(self, flat: str) -> str:
        """The column [N, 1] of `flat`, which is [N]."""
        name = self.reshape(flat, -1, 1)
        self._flats[name] = flat
        return name

    def cut(self, tensor: Tensor, place: int, thresholds: Array) -> None:
        """Remember `thresholds` on column `place` of `tensor`, when a raw column is behind it."""
        origin = tensor.origins[place]
        if origin is not None and origin.scale != 0.0:
            self.cuts += [Cut(origin, float(threshold)) for threshold in np.unique(thresholds)]

    def to_bytes(self) -> bytes:
        """The finished model. Raises Unfaithful when ONNX itself refuses it."""
        onnx = onnx_module()
        helper = onnx.helper
        wanted = {output.name for output in self.outputs}
        nodes = []
        for node in reversed(self.nodes):  # what nothing asks for is left out
            if wanted.intersection(node.output):
                wanted.update(node.input)
                nodes.append(node)
        kept = [constant for constant in self.constants if constant.name in wanted]
        drawn = helper.make_graph(nodes[::-1], "foretell", self.inputs, self.outputs, kept)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(ML, ML_OPSET)]
        model = helper.make_model(drawn, opset_imports=opsets, ir_version=IR_VERSION)
        model.producer_name = "foretell"
        return bytes(model.SerializeToString())


def onnx_type(dtype: np.dtype[Any]) -> int:
    """ONNX's number of an element type; text is a string."""
    onnx = onnx_module()
    if dtype.kind in "OU":
        return int(onnx.TensorProto.STRING)
    return int(onnx.helper.np_dtype_to_tensor_dtype(dtype))


def constant_tensor(name: str, array: Array) -> Any:
    """An array as a TensorProto; objects and unicode are texts."""
    onnx = onnx_module()
    if array.dtype.kind in "OU":
        texts = [str(text).encode() for text in array.ravel()]
        return onnx.helper.make_tensor(name, onnx.TensorProto.STRING, array.shape, texts)
    return onnx.numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
