"""CSV with names in any order, or without any: the rows are the same."""

import math

import pytest

from foretell.codecs.tables.csv_tables import read_csv
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.signature import Signature
from foretell.errors import InvalidInput, TooLarge

SIGNATURE = Signature(
    (
        Field("age", Datatype.FP64, nullable=True),
        Field("tenure", Datatype.INT64),
        Field("plan", Datatype.BYTES, nullable=True),
        Field("on", Datatype.BOOL),
    ),
    (Field("prediction", Datatype.INT64),),
)


@pytest.mark.parametrize(
    "text",
    [
        "age,tenure,plan,on\n35.5,24,basic,true\n,3,,FALSE\n",
        'on,plan,tenure,age\r\nTrue,"basic",24,35.5\r\nFalse,,3,NaN\r\n',
        "\ufeffage,tenure,plan,on\n35.5,24,basic,true\n\nnull,3.0,,false",
        "35.5,24,basic,true\n,+3,,false\n",
    ],
)
def test_names_may_be_left_out(text: str) -> None:
    first, second = read_csv(SIGNATURE, text.encode(), max_rows=9, bare=True).rows
    assert first == (35.5, 24, "basic", True)
    assert math.isnan(second[0])
    assert second[1:] == (3, None, False)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the body is empty"),
        (b"\n\n", "the body is empty"),
        (b"age,tenure,plan,on\n", "there are no rows"),
        (b"age,tenure,plan,off\n1,2,a,true", "there is no input 'off'"),
        (b"age,tenure\n1,2", "column 'plan' is missing"),
        (b"age,age,plan,on\n1,2,a,true", "two columns are called 'age'"),
        (b"1,2,a", "row 0: has 3 values"),
        (b"1,old,a,true", "row 0: 'tenure' is \"old\", but must be a whole number"),
        (b"1,2.5,a,true", "row 0: 'tenure' is 2.5, but must be a whole number"),
        (b"1_0,2,a,true", "'age' is \"1_0\", but must be a number"),
        (b"\xd9\xa3,2,a,true", "but must be a number"),
        (b"1,2,a,1", "'on' is \"1\", but must be true or false"),
        (b'1,2,"a', "not readable as CSV"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_what_says_something_else_is_refused(body: bytes, words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_csv(SIGNATURE, body, max_rows=9, bare=True)
    assert words in refused.value.message


def test_too_many_rows_are_refused() -> None:
    with pytest.raises(TooLarge):
        read_csv(SIGNATURE, b"1,2,a,true\n" * 3, max_rows=2, bare=True)


def test_names_must_be_there_where_they_are_asked_for() -> None:
    with pytest.raises(InvalidInput, match="there is no input '1'"):
        read_csv(SIGNATURE, b"1,2,a,true\n", max_rows=2)
