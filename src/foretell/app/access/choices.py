"""The choices of who may ask: the settings of keys, tokens, limits and TLS, and what fits together.

`Settings` has them in its own order, so they are types here, with their words and bounds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Protocol

from pydantic import AfterValidator, BeforeValidator, Field

from foretell.transports.asgi.access.jwks import refuse_place

# Nobody but this machine reaches these.
_OWN_ADDRESSES = ("127.", "localhost:", "[::1]:", "unix:")


def _jwks_place(value: str | None) -> str | None:
    if value is not None:
        refuse_place(value)
    return value


def _without_per_second(value: object) -> object:
    """`100/s` is said, too."""
    return value.removesuffix("/s") if isinstance(value, str) else value


KeysFile = Annotated[
    Path | None,
    Field(description="A file of keys, one of which callers must send (foretell key new)"),
]
JwtIssuer = Annotated[
    str | None, Field(description="Who issues tokens (JWT) that callers may send: their iss")
]
JwtAudience = Annotated[str | None, Field(description="What tokens must be meant for: their aud")]
JwtJwks = Annotated[
    str | None,
    AfterValidator(_jwks_place),
    Field(description="The issuer's public keys (JWKS): a file, or an https URL"),
]
JwtScopeClaim = Annotated[
    str,
    Field(
        min_length=1,
        description="The claim with foretell:models, foretell:models:NAME, foretell:admin",
    ),
]
JwtLeewayS = Annotated[
    float, Field(ge=0, le=300, description="How far clocks of issuers may be off")
]
RateLimit = Annotated[
    float | None,
    BeforeValidator(_without_per_second),
    Field(gt=0, le=1e6, description="Requests a second of each client, as each worker counts them"),
]
RateBurst = Annotated[
    int | None,
    Field(ge=1, le=10**6, description="Requests of a client at once after a pause; a second's"),
]
CertFile = Annotated[Path | None, Field(description="A PEM certificate chain: serve over TLS")]
KeyFile = Annotated[Path | None, Field(description="The certificate's PEM private key")]
ClientCaFile = Annotated[
    Path | None,
    Field(description="PEM authorities; clients need a certificate of theirs (mTLS)"),
]


class Chosen(Protocol):
    """The settings of a server that decide who may ask."""

    @property
    def bind(self) -> tuple[str, ...]: ...
    @property
    def model_control(self) -> bool: ...
    @property
    def keys_file(self) -> Path | None: ...
    @property
    def jwt_issuer(self) -> str | None: ...
    @property
    def jwt_audience(self) -> str | None: ...
    @property
    def jwt_jwks(self) -> str | None: ...
    @property
    def rate_limit(self) -> float | None: ...
    @property
    def rate_burst(self) -> int | None: ...
    @property
    def certfile(self) -> Path | None: ...
    @property
    def keyfile(self) -> Path | None: ...
    @property
    def client_cafile(self) -> Path | None: ...


def refuse_what_does_not_fit(chosen: Chosen) -> None:
    """Raise ValueError for settings that need others, or that would be unsafe."""
    tokens = {name: getattr(chosen, name) for name in ("jwt_issuer", "jwt_audience", "jwt_jwks")}
    missing = [name for name, value in tokens.items() if not value]
    if 0 < len(missing) < len(tokens):
        raise ValueError(f"tokens need {', '.join(tokens)}; {missing[0]} is missing")
    if chosen.model_control and chosen.keys_file is None and missing:
        others = [address for address in chosen.bind if not address.startswith(_OWN_ADDRESSES)]
        if others:
            raise ValueError(
                f"model_control lets whoever reaches {others[0]} unload models; "
                "give keys_file, too (foretell key new --admin makes a key)"
            )
    if chosen.rate_burst is not None and chosen.rate_limit is None:
        raise ValueError("rate_burst belongs to a rate_limit, which is missing")
    if (chosen.certfile is None) != (chosen.keyfile is None):
        missing_file = "certfile" if chosen.certfile is None else "keyfile"
        raise ValueError(f"TLS needs both certfile and keyfile; {missing_file} is missing")
    if chosen.client_cafile is not None and chosen.certfile is None:
        raise ValueError("client_cafile is for TLS; certfile and keyfile are missing")
