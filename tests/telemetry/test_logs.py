"""Logs: one line a record, its fields beside it, and nothing that clients sent."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.signature import Signature
from foretell.errors import InvalidInput
from foretell.telemetry import logs

SIGNATURE = Signature(
    (
        Field("age", Datatype.FP64, minimum=0, maximum=150),
        Field("plan", Datatype.BYTES, categories=("basic", "pro"), closed=True),
    ),
    (Field("prediction", Datatype.FP64),),
)
Written = Callable[..., io.StringIO]


@pytest.fixture
def written() -> Iterator[Written]:
    """Where the log goes once it is configured; afterwards it goes where it went before."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def configured(*, pretty: bool = False, values: bool = False) -> io.StringIO:
        stream = io.StringIO()
        logs.configure("info", pretty=pretty, values=values, stream=stream)
        return stream

    # What pytest itself listens with is not the root's to close.
    root.handlers.clear()
    yield configured
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(params=["plain", "with Ray"])
def maker(request: pytest.FixtureRequest) -> Iterator[None]:
    """What makes records: Python's own, or one as Ray's, which adds to every record."""
    before = logging.getLogRecordFactory()

    def stamped(*args: Any, **named: Any) -> logging.LogRecord:
        record = before(*args, **named)
        record.__dict__["_ray_timestamp_ns"] = 1
        return record

    if request.param == "with Ray":
        logging.setLogRecordFactory(stamped)
    yield
    logging.setLogRecordFactory(before)


@pytest.mark.usefixtures("maker")
def test_a_record_and_its_fields_are_one_line_of_json(written: Written) -> None:
    stream = written()
    logging.getLogger("foretell.rest").info("it %s", "is\nso", extra={"model": "churn", "row": 3})
    logging.getLogger("foretell.rest").debug("not told")
    (line,) = stream.getvalue().splitlines()
    told = json.loads(line)
    assert told.pop("timestamp").endswith("Z")
    assert told == {
        "event": "it is\nso",
        "level": "info",
        "logger": "foretell.rest",
        "model": "churn",
        "row": 3,
    }


@pytest.mark.parametrize("pretty", [False, True])
def test_an_exception_is_told_in_the_same_line(written: Written, pretty: bool) -> None:
    stream = written(pretty=pretty)
    error = ValueError("the model's own words")
    logging.getLogger("foretell.engine").error("it failed", exc_info=error)
    told = stream.getvalue()
    assert "ValueError: the model's own words" in told
    assert pretty or len(told.splitlines()) == 1


def refusal(row: tuple[Any, ...]) -> InvalidInput:
    try:
        SIGNATURE.accept_row(row)
    except InvalidInput as error:
        return error
    raise AssertionError(f"{row} was accepted")


def line_of(stream: io.StringIO, error: InvalidInput) -> dict[str, Any]:
    fields = {"code": error.code, "reason": str(error), "field": error.field}
    logging.getLogger("foretell.rest").info("a request failed", extra=fields)
    told: dict[str, Any] = json.loads(stream.getvalue().splitlines()[-1])
    return told


@given(text=st.text(min_size=1) | st.just("x, but must be y"), number=st.floats(151, 1e9))
def test_what_was_sent_is_not_in_the_log(text: str, number: float) -> None:
    for error in (refusal((f"s3cret {text}", "basic")), refusal((1.0, f"s3cret {text}"))):
        event = {"code": error.code, "reason": str(error)}
        logs.without_values(None, "", event)
        assert "s3cret" not in event["reason"]
        assert event["reason"].startswith("must be ")
    told = {"code": "invalid_input", "reason": str(refusal((number, "basic")))}
    assert logs.without_values(None, "", told)["reason"] == "must be between 0 and 150"


def test_it_is_when_that_is_allowed(written: Written) -> None:
    error = refusal(("s3cret", "basic"))
    assert "s3cret" not in str(line_of(written(), error))
    told = line_of(written(values=True), error)
    assert told["reason"] == "'age' is \"s3cret\", but must be a number"


def test_a_terminal_gets_pretty_lines_and_everything_else_json() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert logs.is_pretty("auto", Terminal())
    assert not logs.is_pretty("auto", io.StringIO())
    assert logs.is_pretty("pretty", io.StringIO())
    assert not logs.is_pretty("json", Terminal())
