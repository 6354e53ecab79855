"""Two clients: `Client` for threads, `AsyncClient` for asyncio. They differ in how they wait."""

import asyncio
import math
import os
import threading
import time
from pathlib import Path
from random import SystemRandom
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from foretell.client.asking import Asking, Language
from foretell.client.balancing import Balance, Balancer, Urls, upstreams_of
from foretell.client.calling import Calls, Steps, driven, driven_async
from foretell.client.grpc_links import AsyncGrpcLink, GrpcLink
from foretell.client.http_links import MAX_REPLY_BYTES, AsyncHttpLink, HttpLink, LinkOptions
from foretell.client.predictions import Predictions
from foretell.client.rest import RestLanguage
from foretell.client.retrying import Retries
from foretell.core.signature import Signature
from foretell.errors import BadSettings

_Link = TypeVar("_Link")
_Result = TypeVar("_Result")


class _Session(Generic[_Link]):
    """What a client knows and holds in one process (and on one event loop)."""

    def __init__(self, place: object, asking: Asking, link: _Link) -> None:
        self.place = place
        self.asking = asking
        self.link = link


class _Options(Generic[_Link]):
    """What both clients are made with, and remember."""

    def __init__(  # noqa: PLR0913
        self,
        urls: Urls,
        *,
        balance: Balance = "round_robin",
        timeout_s: float | None = 30.0,
        api_key: str | None = None,
        verify: bool | str | Path = True,
        cert: str | Path | tuple[str | Path, str | Path] | None = None,
        http2: bool = False,
        retries: Retries | None = None,
        max_reply_bytes: int = MAX_REPLY_BYTES,
    ) -> None:
        upstreams = upstreams_of(urls)
        self._urls = [upstream.url for upstream in upstreams]
        self._weights = {upstream.url: upstream.weight for upstream in upstreams}
        self._balance = balance
        self._timeout_s = _checked(timeout_s)
        self._options = LinkOptions(api_key, verify, cert, http2, max_reply_bytes)
        self._retries = retries or Retries()
        self._is_grpc = self._urls[0].startswith("grpc")
        if (verify is not True or cert is not None) and not any(
            url.startswith(("https:", "grpcs:")) for url in self._urls
        ):
            raise BadSettings("verify and cert are for TLS; take https:// or grpcs:// URLs")
        if api_key is not None and not (api_key and api_key.isascii() and api_key.isprintable()):
            raise BadSettings(
                "the api_key is empty or has what no header can hold, such as a line's end"
            )
        if not 0 < max_reply_bytes < 2**31:  # grpcio knows no more
            raise BadSettings(
                f"max_reply_bytes is {max_reply_bytes}, but must be between 1 and {2**31 - 1}"
            )
        self._closed = False
        self._session: _Session[_Link] | None = None
        self._lock = threading.Lock()
        self._balancer()  # to tell of what is wrong with it now

    def _balancer(self) -> Balancer:
        return Balancer(upstreams_of(self._weights), self._balance)

    def _asking(self) -> Asking:
        calls = Calls(
            self._balancer(), self._retries, clock=time.monotonic, random=SystemRandom().random
        )
        language: Language
        if self._is_grpc:
            from foretell.client.rpc import RpcLanguage

            language = RpcLanguage()
        else:
            language = RestLanguage()
        return Asking(calls, language)

    def _deadline(self, timeout_s: float | None) -> float | None:
        """A call's deadline by its own timeout or the client's."""
        left_s = self._timeout_s if timeout_s is None else _checked(timeout_s)
        return None if left_s is None or left_s == math.inf else time.monotonic() + left_s

    def _predictions(
        self,
        session: _Session[_Link],
        model: str,
        rows: Any,
        version: str | None,
        timeout_s: float | None,
        key: str | None,
    ) -> Steps[Predictions]:
        asking = session.asking
        asking.calls.balancer.check_key(key)
        deadline = self._deadline(timeout_s)
        return asking.predictions(model, rows, version=version, deadline=deadline, key=key)

    def _signature(
        self, session: _Session[_Link], model: str, version: str | None
    ) -> Steps[Signature]:
        deadline = self._deadline(None)
        return session.asking.signature(model, version=version, deadline=deadline)

    def _check_open(self) -> None:
        if self._closed:
            raise BadSettings("this client is closed; make another one")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._urls)})"


class Client(_Options[HttpLink | GrpcLink]):
    """Asks servers for predictions, over REST (`http://`) or gRPC (`grpc://`).

    `urls`: one URL, several, or URLs with weights (`{url: weight}`, `"URL=WEIGHT"`); `balance`
    says which of them takes a call. `timeout_s` is the whole of a call with its retries, in
    seconds; None waits as long as it takes. `api_key` is sent as a bearer token. `verify`: the PEM
    file of the authority to trust, or False for anybody's word (REST only); `cert`: a client
    certificate as PEM, or (PEM, key). `http2` speaks HTTP/2 only; `retries` says how patiently.
    An answer of more than `max_reply_bytes` is not taken: TooLarge.

    May be used from several threads, and after a fork where it speaks REST. Close it, or use it
    in a `with` block. Raises BadSettings and MissingExtra.
    """

    def predict(
        self,
        model: str,
        rows: Any,
        *,
        version: str | None = None,
        timeout_s: float | None = None,
        key: str | None = None,
    ) -> Predictions:
        """The predictions of `model` for `rows`.

        `rows` is a dict or a list of dicts or sequences, a numpy array of shape (n, k), a pandas
        DataFrame or an Arrow table; they are judged by the model's signature before they are
        sent. `timeout_s` stands for the client's; math.inf waits as long as it takes. `key`
        chooses the server when `balance` is "hash". Raises ForetellError: InvalidInput with field
        and row, NotFound, Overloaded, DeadlineExceeded, NoAnswer and the others of the tree.
        """
        session = self._current()
        steps = self._predictions(session, model, rows, version, timeout_s, key)
        return driven(steps, session.link.exchange)

    def signature(self, model: str, *, version: str | None = None) -> Signature:
        """What `model` takes and gives. Raises ForetellError."""
        session = self._current()
        steps = self._signature(session, model, version)
        return driven(steps, session.link.exchange)

    def _current(self) -> _Session[HttpLink | GrpcLink]:
        """This process's session: a forked child has connections and locks of its own."""
        self._check_open()
        session = self._session
        if session is not None and session.place == os.getpid():
            return session
        if session is not None:
            if self._is_grpc:
                raise BadSettings(
                    "grpcio does not survive a fork; make the client in the process that uses it"
                )
            self._lock = threading.Lock()  # the parent's may have been held at that moment
        with self._lock:
            session = self._session
            if session is None or session.place != os.getpid():
                kind = GrpcLink if self._is_grpc else HttpLink
                link = kind(self._options, self._urls)
                session = self._session = _Session(os.getpid(), self._asking(), link)
            return session

    def close(self) -> None:
        """Close all connections; the client is of no use afterwards."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None and session.place == os.getpid():
            session.link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class AsyncClient(_Options[AsyncHttpLink | AsyncGrpcLink]):
    """`Client` for asyncio: the same arguments and calls, to be awaited.

    It belongs to the event loop it is first used on. Close it there, or use `async with`.
    """

    async def predict(
        self,
        model: str,
        rows: Any,
        *,
        version: str | None = None,
        timeout_s: float | None = None,
        key: str | None = None,
    ) -> Predictions:
        """The predictions of `model` for `rows`, as `Client.predict` gives them."""
        session = self._current()
        steps = self._predictions(session, model, rows, version, timeout_s, key)
        return await driven_async(steps, session.link.exchange)

    async def signature(self, model: str, *, version: str | None = None) -> Signature:
        """What `model` takes and gives. Raises ForetellError."""
        session = self._current()
        steps = self._signature(session, model, version)
        return await driven_async(steps, session.link.exchange)

    def _current(self) -> _Session[AsyncHttpLink | AsyncGrpcLink]:
        """This process's and event loop's session."""
        self._check_open()
        place = (os.getpid(), asyncio.get_running_loop())
        session = self._session
        if session is None:
            kind = AsyncGrpcLink if self._is_grpc else AsyncHttpLink
            link = kind(self._options, self._urls)
            session = self._session = _Session(place, self._asking(), link)
        if session.place != place:
            raise BadSettings(
                "this client belongs to another event loop or process; make one where it is used"
            )
        return session

    async def close(self) -> None:
        """Close all connections; the client is of no use afterwards."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None and session.place == (os.getpid(), asyncio.get_running_loop()):
            await session.link.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


def _checked(timeout_s: float | None) -> float | None:
    if timeout_s is not None and not timeout_s > 0:
        raise BadSettings(f"timeout_s is {timeout_s}, but must be seconds greater than 0, or None")
    return timeout_s
