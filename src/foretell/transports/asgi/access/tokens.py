"""Tokens are what an issuer signed (JWT): who asks, until when, and in what scope.

Rules:

1. A token is of one issuer, for this audience, with an end and a subject, and signed by a key of
   the issuer's with an algorithm that fits that key. `alg` and `kid` only choose among these.
2. What it may ask stands in its scope: `foretell:models`, `foretell:models:NAME` and
   `foretell:admin`. A token without one of these has no model.
3. One that was verified is remembered by its digest until it ends, as long as the issuer's keys
   are the same, so the next request with it costs a digest.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from foretell.errors import MissingExtra, NotReady, Unauthenticated
from foretell.transports.asgi.access.grants import Grant
from foretell.transports.asgi.access.jwks import KeySet, SigningKeys
from foretell.transports.asgi.access.keyring import Keyring

_MOST_TOKEN_BYTES = 16 * 2**10
_MOST_SUBJECT = 255
_MOST_REMEMBERED = 10_000
_AWAY_S = 10.0
_MODELS, _ADMIN = "foretell:models", "foretell:admin"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a token must say: its `iss` and `aud`, how far clocks may differ, its scope's claim."""

    issuer: str
    audience: str
    leeway_s: float = 30.0
    scope_claim: str = "scope"


class Tokens:
    """Verifies tokens against `keys` and `terms`. Raises MissingExtra without PyJWT."""

    def __init__(
        self, keys: SigningKeys, terms: Terms, clock: Callable[[], float] = time.time
    ) -> None:
        try:
            import jwt
        except ImportError as error:
            raise MissingExtra("install foretell[jwt] to take tokens: pyjwt is missing") from error
        self._jwt = jwt
        self._keys = keys
        self._terms = terms
        self._clock = clock
        self._verified: dict[bytes, tuple[float, Grant]] = {}
        self._verified_by: KeySet | None = None

    def grant_of(self, token: bytes) -> Grant:
        """What `token` allows. Raises Unauthenticated, and NotReady before any key is known."""
        keys = self._keys.current()
        if keys is not self._verified_by:
            self._verified, self._verified_by = {}, keys
        digest = sha256(token).digest()
        known = self._verified.get(digest)
        if known is not None:
            if self._clock() < known[0]:
                return known[1]
            del self._verified[digest]
        claims = self._claims_of(token, keys)
        grant = self._granted(claims)
        if len(self._verified) >= _MOST_REMEMBERED:
            del self._verified[next(iter(self._verified))]
        self._verified[digest] = float(claims["exp"]) + self._terms.leeway_s, grant
        return grant

    def _claims_of(self, token: bytes, keys: KeySet) -> Mapping[str, Any]:
        jwt, terms = self._jwt, self._terms
        if not keys:
            self._keys.look_soon()
            raise NotReady(
                "the keys of the issuer could not be read yet; try again in some seconds",
                retry_after_s=_AWAY_S,
            )
        if len(token) > _MOST_TOKEN_BYTES:
            raise Unauthenticated(
                f"a token has at most {_MOST_TOKEN_BYTES} bytes; get a shorter one"
            )
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            key = keys.get(kid)
            if key is None:
                self._keys.look_soon()
                raise Unauthenticated(
                    "the token names no key of its issuer that is known here; get a new one, "
                    "or try again in some seconds if the issuer changed its keys just now"
                )
            claims: Mapping[str, Any] = jwt.decode(
                token,
                key.public,
                algorithms=list(key.algorithms),
                audience=terms.audience,
                issuer=terms.issuer,
                leeway=terms.leeway_s,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("the token has expired; get a new one") from None
        except jwt.ImmatureSignatureError:
            raise Unauthenticated("the token is not valid yet; compare the clocks") from None
        except jwt.InvalidAudienceError:
            raise Unauthenticated(
                f"the token is for somebody else; get one for the audience {terms.audience!r}"
            ) from None
        except jwt.InvalidIssuerError:
            raise Unauthenticated(f"the token is not of the issuer {terms.issuer!r}") from None
        except jwt.MissingRequiredClaimError as error:
            raise Unauthenticated(f"the token has no {error.claim}; get one that does") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            # Why it fails in detail helps only who forges one.
            raise Unauthenticated("the token is not a valid one; get a new one") from None
        return claims

    def _granted(self, claims: Mapping[str, Any]) -> Grant:
        subject, told = claims["sub"], claims.get(self._terms.scope_claim)
        if not subject or len(subject) > _MOST_SUBJECT:
            raise Unauthenticated(f"the token's sub must have 1 to {_MOST_SUBJECT} letters")
        listed = told.split() if isinstance(told, str) else told if isinstance(told, list) else []
        scopes = {scope for scope in listed if isinstance(scope, str)}
        prefix = f"{_MODELS}:"
        named = frozenset(s.removeprefix(prefix) for s in scopes if s.startswith(prefix))
        models = None if _MODELS in scopes else named
        return Grant(subject, models, _ADMIN in scopes, kind="token")


def credentials(keys: Keyring | None, tokens: Tokens | None) -> Callable[[bytes], Grant]:
    """What knows the grants of both, or of the one that there is. A key has no two dots."""
    if tokens is None or keys is None:
        known = keys or tokens
        if known is None:
            raise ValueError("there is nothing to know callers by")
        return known.grant_of

    def grant_of(sent: bytes) -> Grant:
        return tokens.grant_of(sent) if sent.count(b".") == 2 else keys.grant_of(sent)

    return grant_of
