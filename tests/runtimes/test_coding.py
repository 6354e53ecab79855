"""Codes of texts: the same for rows, for columns, and for columns of choices."""

import numpy as np
import pytest

from foretell.core.batch import Batch, Chosen
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.errors import BadPackage
from foretell.runtimes.coding import coded
from foretell.runtimes.onnx_files import laid_out

FIELDS = (
    Field("plan", Datatype.BYTES, nullable=True),
    Field("usage", Datatype.FP64, nullable=True),
    Field("active", Datatype.BOOL, nullable=True),
    Field("city", Datatype.BYTES),
)
WORDS = [["basic", "prö"], ["Köln"]]
ROWS = [
    ("prö", 1.5, True, "Köln"),
    (None, float("nan"), None, "Bonn"),
    ("other", -2.0, False, ""),
    ("basic", 0.0, True, "Köln"),
]
CODES = [[3, 2], [1, 0], [0, 0], [2, 2]]
NUMBERS = [[1.5, 1.0], [np.nan, np.nan], [-2.0, 0.0], [0.0, 1.0]]


def test_few_rows_and_many_have_the_same_codes() -> None:
    tabulate = coded(FIELDS, WORDS)
    for times in (1, 20):
        feed = tabulate(Batch.from_rows(FIELDS, ROWS * times))
        assert feed["codes"].tolist() == CODES * times
        np.testing.assert_array_equal(feed["numbers"], NUMBERS * times)


def test_choices_have_the_codes_of_their_texts() -> None:
    columns = list(Batch.from_rows(FIELDS, ROWS * 20).columns)
    choices = np.array(["basic", "prö", "other", None, "never"], dtype=object)
    columns[0] = Chosen(choices, np.array([1, 3, 2, 0] * 20))  # type: ignore[call-overload] # not an array
    batch = Batch.from_columns(FIELDS, columns)
    tabulate = coded(FIELDS, WORDS)
    assert tabulate(batch)["codes"].tolist() == CODES * 20
    assert tabulate(batch.slice(1, 40))["codes"].tolist() == (CODES * 20)[1:40]
    few = Batch.from_columns(FIELDS, [column[:2] for column in columns])
    assert tabulate(few)["codes"].tolist() == CODES[:2]


def test_more_choices_than_rows_cost_no_more_than_the_rows() -> None:
    choices = np.array([f"w{n}" for n in range(1000)] + ["basic"], dtype=object)
    (field, *_) = FIELDS
    batch = Batch.from_columns((field,), [Chosen(choices, np.array([1000, 3] * 20))])
    assert coded((field,), [["basic"]])(batch)["codes"].ravel().tolist() == [2, 0] * 20


def test_a_layout_that_nobody_knows_is_refused_not_fed_as_another() -> None:
    assert laid_out(FIELDS, {}) is None
    with pytest.raises(BadPackage, match=r"'grouped'.*pack the model anew"):
        laid_out(FIELDS, {"layout": "grouped"})
