"""The stage of a bulk form: a graph in front, the kernel over the trees, a graph behind.

Its files are `before` (where there is one), the trees, and `after`. Its options are those of the
`onnx` step it was cut from, and besides:

- `sums`   the input of `after` that the kernel makes
- `input`  where there is no `before`: the name of the one matrix of numbers, which the trees
           read as it is; `after` may ask for it, too
- `casts`  the dtypes through which the trees see that matrix

Rows are taken in chunks, each through all three, so that what is made on the way stays in the
processor's caches. Many threads may predict at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from foretell.core.batch import Chosen, column_values, joined
from foretell.core.field import Array, Field
from foretell.errors import BadPackage, MissingExtra
from foretell.runtimes.onnx_files import OnnxStage, laid_out, open_graph
from foretell.runtimes.stages import Known, StageFiles
from foretell.runtimes.tables import Table, Tabulate
from foretell.runtimes.trees.layout import packed
from foretell.runtimes.trees.table import TreeTable

_CHUNK_BYTES = 512 * 1024
_LEAST_ROWS, _MOST_ROWS = 4096, 16_384
_CASTS = {"float32": np.float32, "float64": np.float64}


def open_stage(files: StageFiles) -> TreesStage:
    """The stage in two or three files. Raises BadPackage and MissingExtra."""
    if len(files.names) not in (2, 3):
        raise BadPackage(f"a step of trees needs two files or three, but lists {len(files.names)}")
    *front, trees, behind = (files.folder / name for name in files.names)
    # the chunks are what runs on several threads
    before = open_graph(front[0], {}, bound=False) if front else None
    after = open_graph(behind, files.options, bound=False)
    try:
        table = TreeTable.from_bytes(trees.read_bytes(), trees.name)
    except OSError as error:
        raise BadPackage(f"{trees.name} cannot be read: {error.strerror}") from error
    return TreesStage(before, table, after, files.options, threads=files.threads)


class TreesStage:
    """Graphs and trees that answer together, in bulk."""

    def __init__(
        self,
        before: OnnxStage | None,
        table: TreeTable,
        after: OnnxStage,
        options: Mapping[str, Any],
        *,
        threads: int = 1,
    ) -> None:
        try:
            from foretell.runtimes.trees.native import Sums

            self._trees = Sums(packed(table))
        except (ImportError, OSError) as error:  # which llvmlite raises when it lacks its library
            raise MissingExtra(f"install foretell[bulk]: trees need numba ({error})") from error
        self.known = Known()
        self._before, self._after = before, after
        self._sums, self._input = str(options.get("sums")), str(options.get("input"))
        asked = [part.name for part in after.inputs]
        if self._sums not in asked:
            raise BadPackage(f"{after.file} does not take the sums of the trees")
        self._also = [name for name in asked if name != self._sums]
        self._casts = [_dtype(name) for name in options.get("casts", ())]
        self._n_columns = table.n_columns
        fitting = _CHUNK_BYTES // (8 * max(table.n_columns, 1))
        self._rows = min(max(fitting, _LEAST_ROWS), _MOST_ROWS)
        self._pool = ThreadPoolExecutor(threads, "trees") if threads > 1 else None

    def tabulator(self, inputs: tuple[Field, ...], options: Mapping[str, Any]) -> Tabulate:
        """The tensors of the whole graph, by name."""
        tabulate = laid_out(inputs, options)
        if tabulate is not None:
            return tabulate
        if self._before is not None:
            return self._before.tabulator(inputs, options)
        return lambda batch: {self._input: batch.matrix}

    def transform(self, table: Table) -> Table:
        """Raises BadPackage: trees only predict."""
        raise BadPackage("a step of trees predicts, so it must be the last one")

    def predict(self, table: Table) -> Mapping[str, Array | Chosen]:
        """The answers of `after`, under their names."""
        if not isinstance(table, dict):
            raise BadPackage("a step of trees must come first")
        n_rows = len(next(iter(table.values())))
        chunks = [
            {name: part[start : start + self._rows] for name, part in table.items()}
            for start in range(0, n_rows, self._rows)
        ]
        run = map if self._pool is None else self._pool.map
        answers = list(run(self._chunk, chunks))
        if len(answers) == 1:
            return answers[0]
        return {name: joined([part[name] for part in answers]) for name in answers[0]}

    def _chunk(self, feed: dict[str, Array]) -> Mapping[str, Array | Chosen]:
        matrix = self._matrix(feed)
        if matrix.ndim != 2 or matrix.shape[1] < self._n_columns:
            raise BadPackage(f"the trees read {self._n_columns} columns, not {matrix.shape[1:]}")
        sums = self._trees(matrix)
        also = {name: _part(feed, name) for name in self._also}
        return self._after.predict({self._sums: sums, **also})

    def _matrix(self, feed: dict[str, Array]) -> Array:
        """What the trees read."""
        if self._before is None:
            matrix = _part(feed, self._input)
        else:
            asked = {part.name: _part(feed, part.name) for part in self._before.inputs}
            (made,) = self._before.predict(asked).values()
            matrix = column_values(made).reshape(len(made), -1)  # one column comes as scalars
        for dtype in self._casts:
            with np.errstate(over="ignore"):
                matrix = matrix.astype(dtype, copy=False)
        return matrix


def _part(feed: dict[str, Array], name: str) -> Array:
    try:
        return feed[name]
    except KeyError:
        raise BadPackage(f"a step of trees asks for {name!r}, which there is not") from None


def _dtype(name: Any) -> Any:
    try:
        return _CASTS[name]
    except (KeyError, TypeError):
        raise BadPackage(f"trees are cast to {', '.join(_CASTS)}, not to {name!r}") from None
