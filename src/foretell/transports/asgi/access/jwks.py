"""Signing keys are an issuer's public keys (JWKS), from a file or a URL, read again as they change.

Rules:

1. A key goes with the algorithms of its kind alone, all asymmetric: nothing that a token says
   about itself makes a public key a shared secret.
2. A set that cannot be read, or has no usable key, leaves the former one in force.
3. Nobody waits for the network but the start: a URL is read again by a thread of its own, after
   some minutes, or soon when a token names a key that is not known.
"""

import json
import logging
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from threading import Lock, Thread
from types import MappingProxyType
from typing import IO, Any
from urllib.parse import urlsplit

from foretell.errors import BadSettings, MissingExtra

_LOOK_AGAIN_S, _FETCH_AGAIN_S, _SOON_S = 1.0, 300.0, 10.0
_FETCH_S = 5.0
_MOST_BYTES = 2**20
_LEAST_RSA_BITS = 2048
_RSA: tuple[str, ...] = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: dict[str, tuple[str, ...]] = {
    "P-256": ("ES256",),
    "P-384": ("ES384",),
    "P-521": ("ES512",),
    "Ed25519": ("EdDSA",),
}
_OWN_HOSTS = ("localhost", "127.0.0.1", "::1")
_log = logging.getLogger("foretell.tokens")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key, and the algorithms that it may be used with."""

    public: Any
    algorithms: tuple[str, ...]


KeySet = Mapping[str | None, SigningKey]
"""Keys by their ids; the only key of a set is at None, too, for tokens that name none."""


def refuse_place(place: str) -> None:
    """Raise ValueError for a URL that others could answer for."""
    told = urlsplit(place)
    if told.scheme == "http" and told.hostname not in _OWN_HOSTS:
        raise ValueError("who answers over http could be anybody; take an https URL, or a file")
    if "://" in place and told.scheme not in ("http", "https"):
        raise ValueError(f"{told.scheme} is not read; take an https URL, or a file")


class SigningKeys:
    """The keys at `place`. Raises BadSettings for a file that cannot be used at first.

    A URL may be so later: a server must be able to start while its issuer is away.
    """

    def __init__(self, place: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._place = place
        self._clock = clock
        self._is_url = "://" in place
        self._text: bytes | None = None
        self._keys: KeySet = MappingProxyType({})
        self._reading = Lock()
        self._last = clock()
        try:
            self._read()
        except BadSettings as error:
            if not self._is_url:
                raise
            _log.error("no token is taken yet: %s", error)
            self._next = self._last + _SOON_S
        else:
            self._next = self._last + (_FETCH_AGAIN_S if self._is_url else _LOOK_AGAIN_S)

    def current(self) -> KeySet:
        """The keys as they are known now: another object whenever they changed."""
        now = self._clock()
        if now >= self._next:
            self._last = now
            self._next = now + (_FETCH_AGAIN_S if self._is_url else _LOOK_AGAIN_S)
            if self._is_url:
                Thread(target=self._follow, name="foretell-jwks", daemon=True).start()
            else:
                self._follow()
        return self._keys

    def look_soon(self) -> None:
        """A token named a key that is not known: read again, but not for each of these."""
        self._next = min(self._next, self._last + _SOON_S)

    def _follow(self) -> None:
        if not self._reading.acquire(blocking=False):
            return
        try:
            if self._read():
                _log.info("the issuer's keys were read again")
        except BadSettings as error:
            self.look_soon()
            _log.error("the former keys of the issuer stay in force: %s", error)
        finally:
            self._reading.release()

    def _read(self) -> bool:
        """Take what is there now, and tell whether it is something else. Raises BadSettings."""
        try:
            text = _fetched(self._place) if self._is_url else Path(self._place).read_bytes()
        except (OSError, ValueError, HTTPException) as error:
            where = f"the issuer's keys at {self._place}"
            raise BadSettings(f"{where} cannot be read: {error}") from error
        if text == self._text:
            return False
        self._text = text  # told of once, also when it is of no use
        self._keys = MappingProxyType(key_set(text, self._place))
        return True


def key_set(text: bytes, place: str) -> dict[str | None, SigningKey]:
    """The usable keys of a JSON Web Key Set. Raises BadSettings, MissingExtra."""
    try:
        told = json.loads(text)
        listed = told["keys"]
        usable = [(key.get("kid"), made) for key in listed if (made := _signing_key(key))]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadSettings(f"{place} is no JSON Web Key Set: {error!r}") from error
    if not usable:
        raise BadSettings(
            f"{place} has no usable key; it needs public RSA (2048 bits or more), EC or Ed25519 "
            "keys for signatures"
        )
    found: dict[str | None, SigningKey] = {
        kid: made for kid, made in usable if isinstance(kid, str)
    }
    if len(usable) == 1:
        found[None] = usable[0][1]
    return found


def _signing_key(told: Mapping[str, Any]) -> SigningKey | None:
    """A key for signatures, unless it is for something else, secret, weak or not understood."""
    try:
        from jwt import PyJWK
        from jwt.exceptions import PyJWTError
    except ImportError as error:
        raise MissingExtra("install foretell[jwt] to take tokens: pyjwt is missing") from error
    kind = told.get("kty")
    fitting = _RSA if kind == "RSA" else _CURVES.get(str(told.get("crv")), ())
    if "alg" in told:
        fitting = tuple(name for name in fitting if name == told["alg"])
    if kind not in ("RSA", "EC", "OKP") or not fitting or "d" in told:
        return None
    if told.get("use", "sig") != "sig" or "verify" not in told.get("key_ops", ("verify",)):
        return None
    try:
        public = PyJWK(dict(told), algorithm=fitting[0]).key
    except PyJWTError:
        return None
    if kind == "RSA" and public.key_size < _LEAST_RSA_BITS:
        return None
    return SigningKey(public, fitting)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Keys come from the address that was chosen, or not at all."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Any,
        newurl: str,
    ) -> None:
        return None


def _fetched(url: str) -> bytes:
    """The body of a URL. Raises OSError, ValueError, HTTPException."""
    end = time.monotonic() + 2 * _FETCH_S
    opener = urllib.request.build_opener(_NoRedirect)
    with opener.open(url, timeout=_FETCH_S) as answer:
        parts, size = [], 0
        while part := answer.read1(65536):
            parts.append(part)
            size += len(part)
            if size > _MOST_BYTES or time.monotonic() > end:
                raise ValueError(f"more than {_MOST_BYTES} bytes, or too slow")
    return b"".join(parts)
