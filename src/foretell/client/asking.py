"""Asking is what every client does for its caller: know the signature, judge rows, ask, read.

Like `calling`, it is said by generators: no I/O, and the same for threads and event loops, REST
and gRPC. A `Language` knows the words of one protocol.

Rules:

1. A model's description is fetched once, however many calls need it at the same time.
2. Rows are judged by it before anything is sent. A description that refuses rows is fetched
   anew first, unless it is a few seconds old at most: the server may serve a newer version.
3. It is also fetched anew when the server contradicts it.
"""

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from copy import copy
from dataclasses import dataclass
from typing import Any, Protocol

from foretell.client.calling import Calls, Joining, Reply, Request, Steps
from foretell.client.predictions import Predictions
from foretell.codecs.asking.rows import batch_of
from foretell.core.batch import Batch
from foretell.core.signature import Signature
from foretell.errors import DeadlineExceeded, ForetellError, InvalidInput, NoAnswer, NotFound

RECENT_S = 5.0
_UNREADABLE = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)


@dataclass(frozen=True, slots=True)
class Description:
    """What a server told of a model: its versions' signatures, and which one answers."""

    model: str
    routed: str
    signatures: Mapping[str, Signature]

    def signature(self, version: str | None) -> Signature:
        """The signature of `version`, or of the one that answers. Raises NotFound."""
        found = self.signatures.get(self.routed if version is None else version)
        if found is None:
            raise NotFound(
                f"model {self.model!r} has no version {version!r}; "
                f"loaded are {', '.join(self.signatures)}"
            )
        return found


class Language(Protocol):
    """The words of one protocol. What reads a reply raises ValueError and the like."""

    per_version: bool
    """Whether a description is of one version only."""

    def describe(self, model: str, version: str | None) -> Request:
        """The request for a model's description."""
        ...

    def description(self, reply: Reply, model: str, version: str | None) -> Description:
        """The description in a reply."""
        ...

    def ask(self, signature: Signature, batch: Batch, model: str, version: str | None) -> Request:
        """The request for predictions. Raises InvalidInput for what the protocol can't say."""
        ...

    def answer(self, reply: Reply, asked: Request, described: Description) -> Predictions | None:
        """The predictions in a reply; None when a version gave them that is not described."""
        ...


@dataclass(frozen=True, slots=True)
class _Known:
    """A description, and when it was fetched."""

    description: Description
    at: float


class Asking:
    """Asks for predictions, and remembers the descriptions; may be used from any thread."""

    def __init__(self, calls: Calls, language: Language) -> None:
        self.calls = calls
        self._language = language
        self._known: dict[tuple[str, str | None], _Known] = {}
        self._flights: dict[tuple[str, str | None], Future[_Known | ForetellError]] = {}
        self._lock = threading.Lock()

    def predictions(
        self,
        model: str,
        rows: Any,
        *,
        version: str | None,
        deadline: float | None,
        key: str | None,
    ) -> Steps[Predictions]:
        """The predictions for `rows`. Raises ForetellError."""
        known = yield from self._describe(model, version, deadline)
        try:
            signature, batch = self._judged(known, rows, version)
        except (InvalidInput, NotFound):
            if self.calls.clock() - known.at < RECENT_S:
                raise
            known = yield from self._describe(model, version, deadline, instead_of=known)
            signature, batch = self._judged(known, rows, version)
        try:
            request = self._language.ask(signature, batch, model, version)
        except ValueError as error:  # half a surrogate pair has no UTF-8, and the like
            raise InvalidInput(f"the rows cannot be sent as they are: {error}") from error
        try:
            reply = yield from self.calls.carry(request, deadline=deadline, key=key)
        except (InvalidInput, NotFound):
            self._forget(model, version, known)
            raise
        found = self._read(reply, request, known.description)
        if found is None:
            known = yield from self._describe(model, version, deadline, instead_of=known)
            found = self._read(reply, request, known.description)
        if found is None:
            raise NoAnswer(f"a version of {model!r} answered that the server does not tell of")
        return found

    def signature(
        self, model: str, *, version: str | None, deadline: float | None
    ) -> Steps[Signature]:
        """The signature of a model. Raises ForetellError."""
        known = yield from self._describe(model, version, deadline)
        return known.description.signature(version)

    def _judged(self, known: _Known, rows: Any, version: str | None) -> tuple[Signature, Batch]:
        signature = known.description.signature(version)
        return signature, batch_of(signature, rows)

    def _read(self, reply: Reply, asked: Request, described: Description) -> Predictions | None:
        try:
            return self._language.answer(reply, asked, described)
        except _UNREADABLE as error:
            raise NoAnswer(f"the answer is not one of a Foretell server: {error!r}") from error

    def _place(self, model: str, version: str | None) -> tuple[str, str | None]:
        return model, version if self._language.per_version else None

    def _forget(self, model: str, version: str | None, known: _Known) -> None:
        place = self._place(model, version)
        with self._lock:
            if self._known.get(place) is known:
                del self._known[place]

    def _describe(
        self,
        model: str,
        version: str | None,
        deadline: float | None,
        instead_of: _Known | None = None,
    ) -> Steps[_Known]:
        """What is known of a model: fetched once, however many calls wait for it."""
        place = self._place(model, version)
        while True:
            with self._lock:
                known = self._known.get(place)
                if known is not None and known is not instead_of:
                    return known
                flight = self._flights.get(place)
                if flight is None:
                    mine = self._flights[place] = Future()
                    break
            yield Joining(flight, self.calls.left(deadline))
            if not flight.done():
                self.calls.left(deadline)
                continue
            landed = flight.result()
            if isinstance(landed, _Known):
                return landed
            if not isinstance(landed, DeadlineExceeded):  # that was the other call's own
                raise copy(landed)  # one raised by all would gather all their tracebacks
        ended: _Known | ForetellError = DeadlineExceeded("whoever fetched the description left")
        try:
            fetched = yield from self._fetch(model, version, deadline)
        except ForetellError as error:
            ended = error
            raise
        else:
            ended = fetched
            return fetched
        finally:
            with self._lock:
                if isinstance(ended, _Known):
                    self._known[place] = ended
                del self._flights[place]
            mine.set_result(ended)

    def _fetch(self, model: str, version: str | None, deadline: float | None) -> Steps[_Known]:
        request = self._language.describe(model, version)
        reply = yield from self.calls.carry(request, deadline=deadline, key=model)
        try:
            told = self._language.description(reply, model, version)
        except (*_UNREADABLE, ForetellError) as error:
            raise NoAnswer(
                f"what the server tells of {model!r} is not understood: {error}; "
                "use the same version of Foretell on both sides"
            ) from error
        return _Known(told, self.calls.clock())
