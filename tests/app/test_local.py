"""`foretell.load`: the same rows in every form give the same answers."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import foretell
from foretell.codecs.asking.rows import batch_of
from foretell.core.batch import Batch
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.signature import Signature
from foretell.errors import BadPackage, InvalidInput

SIGNATURE = Signature(
    (
        Field("usage", Datatype.FP64, nullable=True),
        Field("plan", Datatype.BYTES, nullable=True),
        Field("active", Datatype.BOOL),
    ),
    (Field("prediction", Datatype.FP64),),
)
ROWS = [
    {"usage": 1.5, "plan": "pro", "active": True},
    {"usage": None, "plan": None, "active": False},
]
FRAME = pd.DataFrame(ROWS)
SPELLINGS = {
    "dicts": ROWS,
    "lists": [[1.5, "pro", True], [None, None, False]],
    "pandas": FRAME,
    "pandas, other dtypes": FRAME.astype({"plan": "category", "usage": "Float64"}),
    "arrow": pa.Table.from_pylist(ROWS),
    "an arrow batch": pa.RecordBatch.from_pylist(ROWS),
    "numpy": np.array([[1.5, "pro", True], [np.nan, None, False]], dtype=object),
    "numpy, masked": np.ma.array(
        np.array([[1.5, "pro", True], [9.0, "basic", False]], dtype=object),
        mask=[[False] * 3, [True, True, False]],
    ),
}


def plain(batch: Batch) -> list[tuple[Any, ...]]:
    return [tuple(None if v is None or v != v else v for v in row) for row in batch.rows]  # noqa: PLR0124 - NaN alone differs from itself


@pytest.mark.parametrize("rows", SPELLINGS.values(), ids=SPELLINGS)
def test_every_form_of_the_same_rows_is_the_same_batch(rows: Any) -> None:
    batch = Batch.from_columns(SIGNATURE.inputs, batch_of(SIGNATURE, rows).columns)
    assert plain(batch) == [(1.5, "pro", True), (None, None, False)]
    assert [column.dtype.kind for column in batch.columns] == ["f", "O", "b"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "there are no rows"),
        (FRAME.head(0), "there are no rows"),
        ("text", "rows are a str"),
        (FRAME.iloc[0], "rows are a Series, but must be a list or a table"),
        (np.zeros((2, 2)), r"shape \(2, 2\), but must be \(n, 3\)"),
        (FRAME.drop(columns="plan"), "column 'plan' is missing"),
        (FRAME.assign(extra=1), "no input 'extra'"),
        ([ROWS[0], {}], "row 1: field 'usage' is missing"),
        (FRAME.assign(plan=[1, 2]), "row 0: 'plan' is 1, but must be a string"),
    ],
)
def test_rows_that_do_not_fit_are_refused(rows: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        batch_of(SIGNATURE, rows)


def test_a_package_and_a_repository_of_one_can_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "double.py").write_text(
        "import foretell\n"
        "class Double:\n"
        "    signature = foretell.Signature((foretell.Field('x', 'FP64'),),\n"
        "        (foretell.Field('prediction', 'FP64'),), example=(1.0,))\n"
        "    def predict(self, columns):\n"
        "        return columns['x'] * 2\n"
    )
    repository = tmp_path / "models"
    folder = foretell.pack(["double:Double"], repository=repository, python_path=tmp_path)
    for target in (folder, repository):
        model = foretell.load(target)
        assert model.predict({"x": 4})["prediction"].tolist() == [8.0]
    foretell.pack(["double:Double"], version="2", repository=repository, python_path=tmp_path)
    with pytest.raises(BadPackage, match="several versions"):
        foretell.load(repository)
