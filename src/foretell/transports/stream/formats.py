"""Formats: the bytes of a message as rows of fields, by its header `content-type` or by choice.

A message in JSON or msgpack is one row: an object of the inputs by name, or an array in their
order. An Arrow IPC stream may have many, each of which counts as a message of its own.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from foretell.codecs.tables.arrow_tables import TableLimits, read_rows
from foretell.codecs.tables.csv_tables import value_of
from foretell.core.signature import Signature
from foretell.errors import InvalidInput, TooLarge
from foretell.transports.stream.message import Message, Told

MOST_BYTES = 1 << 20
"""A message may have so many bytes."""

TEXTS = "application/vnd.foretell.texts"
"""The content type of an object of texts, for sources whose fields are nothing else."""

_LIMITS = TableLimits(max_rows=10_000, max_bytes=16 << 20)
_BY_TYPE = {
    "application/json": "json",
    TEXTS: "texts",
    "application/msgpack": "msgpack",
    "application/x-msgpack": "msgpack",
    "application/vnd.msgpack": "msgpack",
    "application/vnd.apache.arrow.stream": "arrow",
}
NAMES = ("json", "msgpack", "arrow")
"""The formats that can be chosen for messages that do not tell theirs."""

Row = tuple[Message, Told | InvalidInput | TooLarge]


class Formats:
    """Reads the messages of one stream, for the inputs of one signature."""

    def __init__(self, signature: Signature, chosen: str = "json") -> None:
        self._signature, self._chosen = signature, chosen
        self._readers: dict[str, Callable[[bytes], Any]] = {
            "json": _json,
            "texts": self._texts,
            "msgpack": _msgpack,
        }

    def rows(self, message: Message) -> Sequence[Row]:
        """The rows of `message`, each as a message with its fields; or what is wrong with it."""
        if len(message.value) > MOST_BYTES:
            told = f"the message has more than {MOST_BYTES} bytes; send smaller ones"
            return [(message, TooLarge(told))]
        try:
            form = self._form(message)
            if form == "arrow":
                return self._of_table(message)
            return [(message, self._named(self._readers[form](message.value)))]
        except (InvalidInput, TooLarge) as error:
            return [(message, error)]

    def _form(self, message: Message) -> str:
        for name, value in message.headers:
            if name.lower() == "content-type":
                return _BY_TYPE.get(value.decode(errors="replace").partition(";")[0], self._chosen)
        return self._chosen

    def _named(self, told: Any) -> Told:
        names = self._signature.input_names
        if isinstance(told, list):
            if len(told) != len(names):
                raise InvalidInput(
                    f"the array has {len(told)} values, but the model takes {len(names)}: "
                    f"{', '.join(names)}"
                )
            return dict(zip(names, told, strict=True))
        if not isinstance(told, dict) or not all(isinstance(name, str) for name in told):
            raise InvalidInput("the message must be an object of the inputs by name, or an array")
        return told

    def _texts(self, value: bytes) -> Any:
        told = _json(value)
        if not isinstance(told, dict):  # whoever says this content type may send anything
            return told
        for field in self._signature.inputs:
            if isinstance(told.get(field.name), str) and not field.shape:
                told[field.name] = value_of(field, told[field.name])
        return told

    def _of_table(self, message: Message) -> list[Row]:
        """Each row is a message behind its position, whose value is the row in JSON."""
        rows: list[Row] = []
        for number, told in enumerate(read_rows(message.value, _LIMITS)):
            try:
                value = msgspec.json.encode(told)
            except (TypeError, ValueError) as error:
                raise InvalidInput(f"a row cannot be told in JSON: {error}") from None
            position = f"{message.position}#{number}"
            one = msgspec.structs.replace(message, position=position, value=value)
            rows.append((one, told))
        return rows


def _read(decode: Callable[[bytes], Any], form: str, value: bytes) -> Any:
    try:
        return decode(value)
    except RecursionError:
        raise InvalidInput("the message is nested too deeply") from None
    except (ValueError, TypeError) as error:  # msgspec's own are of these
        raise InvalidInput(f"the message is not valid {form}: {error}") from None


_json = partial(_read, msgspec.json.decode, "JSON")
_msgpack = partial(_read, msgspec.msgpack.decode, "msgpack")
