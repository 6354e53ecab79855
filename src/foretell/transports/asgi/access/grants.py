"""Access: what a caller's key allows, and what keys a server knows, by their digests.

Rules:

1. A key is 256 random bits that Foretell drew, so one SHA-256 protects it at rest: there is no
   dictionary to try, which is all that slow hashes are for.
2. What is looked up and compared is a digest, the comparison takes the same time for all: times
   tell nothing of a key.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from hmac import compare_digest
from typing import Any

from foretell.errors import BadSettings, Forbidden, Unauthenticated

_DIGEST_DIGITS = 64
_LOOKED_UP_BYTES = 8
_MOST_KEY_BYTES = 512
_WORDS = frozenset({"sha256", "models", "admin"})


class Need(Enum):
    """What a route or method asks of its caller."""

    OPEN = "nothing"
    KEY = "any key"
    MODEL = "a key for the model that is named"
    EVERY_MODEL = "a key for all models"
    ADMIN = "an admin key"


@dataclass(frozen=True, slots=True)
class Grant:
    """What one key or token allows: `models` None is all of them. Its name is no secret."""

    name: str
    models: frozenset[str] | None = None
    admin: bool = False
    kind: str = "key"

    def refuse_other(self, model: str | None) -> None:
        """Raise Forbidden unless `model` may be asked; None stands for all models."""
        if self.models is not None and model not in self.models:
            what = "all models" if model is None else f"model {model!r}"
            raise Forbidden(f"the {self.kind} {self.name!r} is not for {what}; send one that is")

    def refuse(self, need: Need, model: str | None) -> None:
        """Raise Forbidden unless this grant covers `need`, of `model` where that is known."""
        if need is Need.ADMIN and not self.admin:
            raise Forbidden(f"the {self.kind} {self.name!r} is no admin's, which this needs")
        if need is Need.EVERY_MODEL or (need in (Need.MODEL, Need.ADMIN) and model is not None):
            self.refuse_other(model)


class Keys:
    """The keys that a server knows."""

    def __init__(self, grants: Mapping[bytes, Grant]) -> None:
        self._known = {
            digest[:_LOOKED_UP_BYTES]: (digest, grant) for digest, grant in grants.items()
        }

    @property
    def names(self) -> frozenset[str]:
        """The names of the keys."""
        return frozenset(grant.name for _, grant in self._known.values())

    def grant_of(self, key: bytes) -> Grant:
        """What `key` allows. Raises Unauthenticated."""
        if len(key) <= _MOST_KEY_BYTES:
            digest = sha256(key).digest()
            known = self._known.get(digest[:_LOOKED_UP_BYTES])
            if known is not None and compare_digest(known[0], digest):
                return known[1]
        raise Unauthenticated("this key is not known here; ask the operator for a valid one")


def keys_of(told: Mapping[str, Any]) -> Keys:
    """The keys that a document tells of: a table for each, under `keys`. Raises BadSettings."""
    tables = told.get("keys", {})
    if set(told) - {"keys"} or not isinstance(tables, Mapping):
        raise BadSettings("a file of keys has a table [keys.NAME] for each key, and nothing else")
    grants = {}
    for name, table in tables.items():
        if not isinstance(table, Mapping) or not table.keys() <= _WORDS:
            raise BadSettings(f"keys.{name} must be a table of {', '.join(sorted(_WORDS))}")
        models, admin = table.get("models"), table.get("admin", False)
        if models is not None and not _are_words(models):
            raise BadSettings(f"keys.{name}.models must be a list of names of models")
        if not isinstance(admin, bool):
            raise BadSettings(f"keys.{name}.admin must be true or false")
        allowed = None if models is None else frozenset(models)
        grants[_digest_of(name, table.get("sha256"))] = Grant(name, allowed, admin)
    if len(grants) < len(tables):
        raise BadSettings("two keys have the same sha256; each needs a key of its own")
    return Keys(grants)


def _digest_of(name: str, told: object) -> bytes:
    try:
        digest = bytes.fromhex(told) if isinstance(told, str) else b""
    except ValueError:
        digest = b""
    if len(digest) * 2 != _DIGEST_DIGITS:
        raise BadSettings(
            f"keys.{name}.sha256 must be {_DIGEST_DIGITS} hexadecimal digits; "
            "foretell key new writes them"
        )
    return digest


def _are_words(told: object) -> bool:
    return (
        isinstance(told, Sequence)
        and not isinstance(told, str)
        and all(isinstance(word, str) for word in told)
    )
