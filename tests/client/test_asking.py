"""Asking: rows are judged before they are sent, and descriptions fetched once, until they age."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from foretell.client.asking import RECENT_S, Asking
from foretell.client.calling import Attempt, Joining, Kind, Outcome, Reply, Steps, driven
from foretell.client.predictions import Predictions
from foretell.client.rest import RestLanguage, outcome_of
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.signature import Signature
from foretell.errors import DeadlineExceeded, InvalidInput, NoAnswer, NotFound
from tests.client.cranked import A, World, failed

DOUBLE = Signature((Field("x", Datatype.FP64),), (Field("prediction", Datatype.FP64),))
WIDER = Signature(
    (Field("x", Datatype.FP64), Field("y", Datatype.FP64)),
    (Field("sum", Datatype.FP64), Field("prediction", Datatype.BYTES)),
)


class Server:
    """Serves `double`: by turns version 1, and version 2 with other inputs and outputs."""

    def __init__(self) -> None:
        self.routed = "1"
        self.answering: str | None = None
        self.spoils = False
        self.versions = {"1": DOUBLE, "2": WIDER}
        self.asked: list[str] = []
        self.sent: list[Any] = []

    def __call__(self, attempt: Attempt) -> Outcome:
        path = attempt.request.path
        self.asked.append(f"{attempt.request.method} {path}")
        if path == "/models/double":
            versions = [
                {"version": name, "signature": json.loads(json.dumps(signature.describe()))}
                for name, signature in self.versions.items()
            ]
            return self.told({"version": self.routed, "versions": versions})
        if not path.startswith("/models/double/"):
            return failed(Kind.ANSWERED)
        self.sent.append(json.loads(attempt.request.body))
        version = path.split("/")[4] if "/versions/" in path else self.answering or self.routed
        if path.endswith("/batch_predict"):
            return self.told({"predictions": [2.0, 4.0], "model_version": version})
        if version == "2":
            outputs = {"prediction": "high", "outputs": {"sum": 3.0}}
            return self.told({**outputs, "model_version": version})
        return self.told({"prediction": 2.0, "model_version": version})

    def told(self, body: object) -> Outcome:
        if self.spoils:
            return Outcome(Kind.ANSWERED, Reply(b"<html>"))
        return outcome_of(200, {}, json.dumps(body).encode(), A)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def ask(world: World, server: Server) -> Callable[..., Predictions]:
    asking = Asking(world.calls(A), RestLanguage())

    def ask(rows: Any, version: str | None = None, model: str = "double") -> Predictions:
        steps = asking.predictions(model, rows, version=version, deadline=None, key=None)
        return world.play(steps, server)

    return ask


def test_one_row_and_many_go_to_their_own_routes(
    ask: Callable[..., Predictions], server: Server
) -> None:
    assert ask({"x": 1}).predictions.tolist() == [2.0]
    assert ask([[1], [2]]).predictions.tolist() == [2.0, 4.0]
    assert ask([[1]], version="1").version == "1"
    assert server.asked == [
        "GET /models/double",
        "POST /models/double/predict",
        "POST /models/double/batch_predict",
        "POST /models/double/versions/1/predict",
    ]
    assert server.sent == [
        {"features": [1.0]},
        {"instances": [[1.0], [2.0]]},
        {"features": [1.0]},
    ]


def test_a_mistake_is_told_with_field_and_row_and_nothing_is_sent(
    ask: Callable[..., Predictions], server: Server
) -> None:
    with pytest.raises(InvalidInput, match="row 1: 'x' is \"old\", but must be a number") as caught:
        ask([{"x": 1}, {"x": "old"}])
    assert (caught.value.field, caught.value.row) == ("x", 1)
    with pytest.raises(NotFound, match="no version '3'; loaded are 1, 2"):
        ask({"x": 1}, version="3")
    assert server.asked == ["GET /models/double"]


def test_a_description_that_aged_is_fetched_anew_before_rows_are_refused(
    ask: Callable[..., Predictions], server: Server, world: World
) -> None:
    ask({"x": 1})
    server.routed = "2"
    with pytest.raises(InvalidInput):
        ask({"x": 1, "y": 2})
    world.now += RECENT_S
    answer = ask({"x": 1, "y": 2})
    assert (answer.version, answer.predictions.tolist()) == ("2", ["high"])
    assert answer.outputs["sum"].tolist() == [3.0]
    assert server.asked.count("GET /models/double") == 2


def test_an_answer_of_a_version_that_is_new_is_read_by_its_own_signature(
    ask: Callable[..., Predictions], server: Server
) -> None:
    del server.versions["2"]
    ask({"x": 1})
    server.routed, server.versions = "2", {"2": WIDER}
    answer = ask({"x": 1})
    assert (answer.version, answer.outputs["sum"].tolist()) == ("2", [3.0])


def test_a_version_the_server_does_not_tell_of_is_not_read(
    ask: Callable[..., Predictions], server: Server
) -> None:
    server.answering = "9"
    with pytest.raises(NoAnswer, match="that the server does not tell of"):
        ask({"x": 1})


def test_what_is_no_answer_or_description_of_ours_is_told(
    ask: Callable[..., Predictions], server: Server
) -> None:
    server.routed = "9"
    with pytest.raises(NoAnswer, match="tells of 'double' is not understood: version 9 has no"):
        ask({"x": 1})
    server.routed = "1"
    assert ask({"x": 1}).version == "1"
    server.spoils = True
    with pytest.raises(NoAnswer, match="is not one of a Foretell server"):
        ask({"x": 1})


def test_lists_of_different_lengths_are_a_mistake_of_the_rows(
    ask: Callable[..., Predictions], server: Server
) -> None:
    field = Field("x", Datatype.FP64, shape=(-1,))
    server.versions = {"1": Signature((field,), DOUBLE.outputs)}
    with pytest.raises(InvalidInput, match="row 1: 'x' is an array of 2, but must be one of 1"):
        ask([[[1.0]], [[1.0, 2.0]]] * 20)
    assert server.sent == []


def test_texts_that_have_no_utf_8_are_a_mistake_of_the_rows(
    ask: Callable[..., Predictions], server: Server
) -> None:
    server.versions = {"1": Signature((Field("x", Datatype.BYTES),), DOUBLE.outputs)}
    with pytest.raises(InvalidInput, match="cannot be sent as they are"):
        ask({"x": "\ud800"})
    assert server.sent == []


def test_what_the_server_refuses_makes_the_client_look_again(
    ask: Callable[..., Predictions], server: Server, world: World
) -> None:
    ask({"x": 1})
    with pytest.raises(InvalidInput):
        ask({"x": 1}, model="other")
    assert server.asked[-1] == "GET /models/other"


def joined(asking: Asking, timeout_s: float | None, world: World) -> Steps[Predictions]:
    deadline = None if timeout_s is None else world.now + timeout_s
    return asking.predictions("double", {"x": 1}, version=None, deadline=deadline, key=None)


def test_calls_that_come_together_fetch_the_description_once(world: World, server: Server) -> None:
    asking = Asking(world.calls(A), RestLanguage())
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: driven(joined(asking, None, world), server), range(64)))
    assert all(answer.predictions.tolist() == [2.0] for answer in answers)
    assert server.asked.count("GET /models/double") == 1


def test_who_waits_for_another_calls_fetch_gets_its_error_or_goes_itself(
    world: World, server: Server
) -> None:
    asking = Asking(world.calls(A), RestLanguage())
    leader, follower = joined(asking, None, world), joined(asking, 5.0, world)
    next(leader)
    step = next(follower)
    assert isinstance(step, Joining)
    assert step.timeout_s == 5.0
    with pytest.raises(NoAnswer) as its_own:
        leader.send(failed(Kind.SPOILT))
    with pytest.raises(NoAnswer) as anothers:
        follower.send(None)
    assert anothers.value.message == its_own.value.message
    assert anothers.value is not its_own.value  # each has a traceback of its own
    leader, follower = joined(asking, None, world), joined(asking, 5.0, world)
    next(leader)
    next(follower)
    leader.close()  # its caller gave up
    assert isinstance(follower.send(None), Attempt)


def test_who_waits_too_long_for_another_calls_fetch_is_late(world: World) -> None:
    asking = Asking(world.calls(A), RestLanguage())
    leader, follower = joined(asking, None, world), joined(asking, 5.0, world)
    next(leader)
    next(follower)
    world.now += 5.0
    with pytest.raises(DeadlineExceeded):
        follower.send(None)
    leader.close()
