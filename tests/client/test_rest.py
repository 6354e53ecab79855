"""Replies over HTTP, from our server and from what stands in front of it, as errors of the tree."""

import json
import pickle
from copy import copy

import pytest

from foretell import errors
from foretell.client.calling import Kind
from foretell.client.failures import CODES
from foretell.client.rest import outcome_of
from foretell.errors import ForetellError, NoAnswer
from foretell.transports.rest.errors import STATUS, failure
from tests.contract.test_failures import leaves

URL = "http://127.0.0.1:8000"


def made(kind: type[ForetellError]) -> ForetellError:
    if issubclass(kind, errors.NotReady | errors.Overloaded):
        return kind("words", retry_after_s=1.2)
    return kind("words", field="age", row=3)


def test_every_leaf_of_the_error_tree_can_be_rebuilt() -> None:
    assert set(CODES.values()) == leaves(ForetellError)


@pytest.mark.parametrize("kind", STATUS, ids=lambda kind: kind.__name__)
def test_what_the_server_raised_the_client_raises(kind: type[ForetellError]) -> None:
    error = made(kind)
    status, headers, body = failure(error, "r1")
    got = outcome_of(status, headers, body, URL).error
    assert type(got) is kind
    assert (got.message, got.field, got.row) == ("words", error.field, error.row)
    assert getattr(got, "retry_after_s", 2.0) == 2.0  # whole seconds, never sooner than asked for
    assert got.__notes__ == [f"request r1 to {URL}"]


@pytest.mark.parametrize("kind", STATUS, ids=lambda kind: kind.__name__)
def test_errors_cross_processes_and_are_copied_as_they_are(kind: type[ForetellError]) -> None:
    error = made(kind)
    error.add_note("request r1")
    for got in (pickle.loads(pickle.dumps(error)), copy(error)):
        assert type(got) is kind
        assert got.__dict__ == error.__dict__
        assert str(got) == "words"


@pytest.mark.parametrize(
    ("status", "headers", "kind", "code", "words"),
    [
        (503, {"retry-after": "7"}, Kind.UNREADY, "not_ready", "503 Service Unavailable"),
        (429, {}, Kind.SHED, "overloaded", "429 Too Many Requests"),
        (502, {}, Kind.SPOILT, "no_answer", "is no answer of a Foretell server: <html>"),
        (504, {}, Kind.SPOILT, "no_answer", "504 Gateway Timeout"),
        (401, {}, Kind.SPOILT, "unauthenticated", "401"),
        (413, {}, Kind.SPOILT, "too_large", "413"),
        (404, {}, Kind.SPOILT, "no_answer", "404 Not Found"),
        (599, {}, Kind.SPOILT, "no_answer", "599"),
        (200, {}, Kind.SPOILT, "no_answer", "200 OK, which is no answer of a Foretell server"),
        (302, {"location": "http://b/"}, Kind.SPOILT, "no_answer", "name the address it leads to"),
    ],
)
def test_replies_of_proxies_and_strangers(
    status: int, headers: dict[str, str], kind: Kind, code: str, words: str
) -> None:
    outcome = outcome_of(status, headers, b"<html>", URL)
    assert outcome.error is not None
    assert (outcome.kind, outcome.error.code) == (kind, code)
    assert words in outcome.error.message
    if code == "not_ready":
        assert outcome.error.retry_after_s == 7.0  # type: ignore[attr-defined] # NotReady has it


@pytest.mark.parametrize(
    ("told", "rest_s"),
    [
        ("0", 0.0),
        ("120", 120.0),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 9.0),
        ("Fri, 31 Dec 1999 23:59:00 GMT", 0.0),
        ("soon", 1.0),
        ("-5", 1.0),
        ("9" * 400, 1.0),
        ("1e9", 1.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(told: str, rest_s: float) -> None:
    headers = {"retry-after": told, "date": "Fri, 31 Dec 1999 23:59:50 GMT"}
    error = outcome_of(503, headers, b"", URL).error
    assert isinstance(error, errors.NotReady)
    assert error.retry_after_s == rest_s


@pytest.mark.parametrize("body", [b"[]", b"7", b'{"error": "x"}', b"\xff", b"[" * 100_000])
def test_json_that_is_no_failure_of_ours_is_a_strangers(body: bytes) -> None:
    assert isinstance(outcome_of(500, {}, body, URL).error, NoAnswer)


def test_a_code_that_is_not_known_yet_is_told_in_the_servers_words() -> None:
    body = json.dumps({"error": "words", "code": "of_the_future"}).encode()
    outcome = outcome_of(418, {}, body, URL)
    assert isinstance(outcome.error, NoAnswer)
    assert (outcome.kind, outcome.error.message) == (Kind.ANSWERED, "words")
