"""Failures in the log: a line each, of a flood only some."""

import logging
from typing import Any

import pytest

from foretell.core.call import trace_id_of
from foretell.errors import InvalidInput, ModelFailed, NotFound, Overloaded
from foretell.transports.asgi.failing import LINES_PER_S, Failures

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01".encode()


class Cranked:
    now = 10.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Cranked:
    return Cranked()


@pytest.fixture
def failures(clock: Cranked, caplog: pytest.LogCaptureFixture) -> Failures:
    caplog.set_level(logging.INFO, "foretell.test")
    return Failures(logging.getLogger("foretell.test"), clock)


def fields(record: logging.LogRecord) -> dict[str, Any]:
    usual = {*vars(logging.makeLogRecord({})), "asctime"}  # other handlers write that into it
    return {name: value for name, value in vars(record).items() if name not in usual}


def test_a_line_says_which_request_which_model_which_field_and_why(
    failures: Failures, caplog: pytest.LogCaptureFixture
) -> None:
    error = InvalidInput("'age' is missing", field="age", row=2)
    failures.tell(error, "id", PARENT, ("churn", "1.0.0"))
    (record,) = caplog.records
    told = fields(record)
    told.pop("message", None)
    assert told == {
        "request_id": "id",
        "trace_id": TRACE,
        "model": "churn",
        "version": "1.0.0",
        "code": "invalid_input",
        "field": "age",
        "row": 2,
        "reason": "'age' is missing",
    }


def test_whose_fault_it_is_decides_how_loud_it_is(
    failures: Failures, caplog: pytest.LogCaptureFixture
) -> None:
    failures.tell(NotFound("there is none"), "id", None)
    failures.tell(Overloaded("full", retry_after_s=1), "id", None)
    failures.tell(ModelFailed("the engine has told that"), "id", None)
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]


def test_a_flood_of_failures_is_no_flood_of_lines(
    failures: Failures, clock: Cranked, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(LINES_PER_S + 7):
        failures.tell(Overloaded("full", retry_after_s=1), "id", None)
    assert len(caplog.records) == LINES_PER_S
    clock.now += 1
    for _ in range(2):
        failures.tell(Overloaded("full", retry_after_s=1), "id", None)
    later = [fields(record).get("missing_lines") for record in caplog.records[LINES_PER_S:]]
    assert later == [7, None]


@pytest.mark.parametrize(
    ("told", "trace_id"),
    [
        (PARENT, TRACE),
        (f"cc-{TRACE}-b7ad6b7169203331-01-later".encode(), TRACE),
        (f"00-{TRACE.upper()}-b7ad6b7169203331-01".encode(), None),
        (f"00-{'0' * 32}-b7ad6b7169203331-01".encode(), None),
        (f"00-{TRACE}0-b7ad6b7169203331-01".encode(), None),
        (f"0-{TRACE}-b7ad6b7169203331-01".encode(), None),
        (f"00-{TRACE}".encode(), None),
        (b"\xff-\xff-\xff-\xff", None),
        (b"", None),
        (None, None),
    ],
)
def test_only_a_trace_that_is_one_is_taken(told: bytes | None, trace_id: str | None) -> None:
    assert trace_id_of(told) == trace_id
