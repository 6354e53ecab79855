"""Scoring turns messages into records, without I/O: a result or a dead letter for each.

Rules:

1. Messages that are scored together are one batch of the model. One that the model fails on is
   found in halves and fails alone (`executors.attempt`), as at the doors of the server.
2. Fields of a message that are no inputs of the model are left alone; everything else is judged
   by the signature, in the same words as online.
3. A result has the bytes that the REST door answers with, behind its `id`.
"""

import base64
import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from foretell.codecs.json_rows import JsonRows
from foretell.core.batch import Batch, Row
from foretell.core.manifest import Manifest
from foretell.engine.executors import Outcome
from foretell.engine.executors.inline import InlineExecutor
from foretell.engine.fleet import Loaded
from foretell.errors import BadSettings, ForetellError, InvalidInput, ModelFailed, TooLarge
from foretell.transports.stream.condition import Condition
from foretell.transports.stream.message import Message, Record, Told

MOST_BYTES = 1 << 20
"""A message may have so many bytes."""

_TAKEN = {"id", "prediction", "probability", "outputs", "model_version"}


class Choices(NamedTuple):
    """What of a message and its answer is published."""

    merged: bool = False
    key: str | None = None
    when: str | None = None


class Scored(NamedTuple):
    """What became of messages, in their order; `left_out` are those that `when` did not want."""

    results: list[Record]
    dead: list[Record]
    left_out: int


class Scorer:
    """Scores the messages of one stream with one loaded version. Raises BadSettings."""

    def __init__(self, loaded: Loaded, choices: Choices) -> None:
        self._signature = loaded.signature
        self._model, self._version = loaded.name, loaded.version
        self._executor = InlineExecutor(loaded.predict)
        self._codec = JsonRows(loaded.signature)
        self._digest = _digest_of(loaded.manifest)
        self._choices = choices
        self._condition = None
        if choices.when is not None:
            self._condition = Condition(choices.when, loaded.signature)
        if choices.key in _TAKEN and not choices.merged:
            raise BadSettings(f"--key {choices.key}: results have a field of that name already")

    def id_of(self, position: str) -> str:
        """The id of what becomes of the message at `position`: of this model, always the same."""
        return hashlib.sha256(f"{self._digest} {position}".encode()).hexdigest()[:32]

    def score(self, messages: Sequence[Message]) -> Scored:
        """A record for each of `messages`, but those that nobody wants."""
        taken: list[tuple[Message, Told, Batch]] = []
        scored = Scored([], [], 0)
        refused: dict[str, ForetellError] = {}
        for message in messages:
            try:
                told = _decoded(message.value, self._signature.input_names)
                row = self._row(told)
            except (InvalidInput, TooLarge) as error:
                refused[message.position] = error
            else:
                taken.append((message, told, Batch(self._signature.inputs, 1, (row,))))
        outcomes = self._executor.run([batch for _, _, batch in taken]) if taken else []
        came = {
            message.position: (told, outcome)
            for (message, told, _), outcome in zip(taken, outcomes, strict=True)
        }
        left_out = 0
        for message in messages:
            if message.position in refused:
                scored.dead.append(self._dead(message, refused[message.position]))
                continue
            told, outcome = came[message.position]
            if isinstance(outcome, Exception):
                scored.dead.append(self._dead(message, _failure(outcome)))
            elif self._condition is None or self._condition.holds(outcome.rows[0]):
                scored.results.append(self._result(message, told, outcome))
            else:
                left_out += 1
        return scored._replace(left_out=left_out)

    def _row(self, told: Told) -> Row:
        names = self._signature.input_names
        return self._signature.accept_row({name: told[name] for name in names if name in told})

    def _result(self, message: Message, told: Told, outputs: Batch) -> Record:
        own = self.id_of(message.position)
        answer = self._codec.encode_row(outputs, self._version)
        if self._choices.merged:
            # an answer's name counts; the producer's other fields, `id` among them, stay
            merged = {**told, **msgspec.json.decode(answer), "result_id": own}
            return Record(own, msgspec.json.encode(merged))
        before = b'{"id":"%b",' % own.encode()
        if self._choices.key is not None:
            key = msgspec.json.encode(told.get(self._choices.key))
            before += b"%b:%b," % (msgspec.json.encode(self._choices.key), key)
        return Record(own, before + answer[1:])

    def _dead(self, message: Message, error: ForetellError) -> Record:
        own = self.id_of(message.position)
        letter: dict[str, Any] = {"id": own, "position": message.position}
        letter |= {"error": error.message, "code": error.code}
        if error.field is not None:
            letter["field"] = error.field
        letter |= {"attempts": 1, "model": self._model, "model_version": self._version}
        try:
            letter["value"] = message.value.decode()
        except UnicodeDecodeError:
            letter["value_base64"] = base64.b64encode(message.value).decode()
        return Record(own, msgspec.json.encode(letter))


def _decoded(value: bytes, names: Sequence[str]) -> Told:
    """A message's fields by name, an array's by the inputs in their order."""
    if len(value) > MOST_BYTES:
        raise TooLarge(f"the message has more than {MOST_BYTES} bytes; send smaller ones")
    try:
        told = msgspec.json.decode(value)
    except RecursionError:
        raise InvalidInput("the message is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the message is not valid JSON: {error}") from None
    if isinstance(told, list):
        if len(told) != len(names):
            raise InvalidInput(
                f"the array has {len(told)} values, but the model takes {len(names)}: "
                f"{', '.join(names)}"
            )
        return dict(zip(names, told, strict=True))
    if not isinstance(told, dict):
        raise InvalidInput("the message must be an object of the inputs by name, or an array")
    return told


def _failure(outcome: Outcome) -> ForetellError:
    if isinstance(outcome, ForetellError):
        return outcome
    return ModelFailed(f"the model failed on this message: {type(outcome).__name__}: {outcome}")


def _digest_of(manifest: Manifest) -> str:
    """One digest for all files of the version, and its name."""
    parts = [manifest.name, manifest.version, *(a.sha256 for a in manifest.files)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
