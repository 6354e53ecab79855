"""What is read of a gateway: `gateway.toml`, flags over it, and the files that these name."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from foretell.app.settings import nearest
from foretell.core.field import spoken
from foretell.deploy.gateway.messages import Contents
from foretell.deploy.gateway.plan import Canary, Gateway, Group, Jwt, RateLimit, Tls, Upstream
from foretell.errors import BadSettings

CONFIG_FILE = "gateway.toml"
_FILES = ("api_keys_file", "upstream_cafile", "jwks_file", "certfile", "keyfile", "client_cafile")
_FEWEST_KEY_LETTERS = 20
_WORDS_OF_A_LINE = 2
_ADAPTER: TypeAdapter[Gateway] = TypeAdapter(Gateway)
_TABLES: Mapping[str, type] = {
    "canary": Canary,
    "rate_limit": RateLimit,
    "jwt": Jwt,
    "tls": Tls,
}


def read(config: Path | None, flags: Mapping[str, Any]) -> Gateway:
    """The gateway that the file and the flags, which win, come to.

    Raises BadSettings with all that is wrong, each with its place.
    """
    told = {} if config is None else _from_file(config)
    told = _absolute(told, Path() if config is None else config.parent) | dict(flags)
    wrong = _unknown(told, Gateway, "")
    told = _with_upstreams(told, "", wrong)
    try:
        gateway = _ADAPTER.validate_python(told)
    except ValidationError as error:
        wrong += _explained(error)
    if wrong:
        where = "the command line" if config is None else f"{config}, or the command line"
        raise BadSettings(f"the gateway cannot be set up so ({where}): {'; '.join(wrong)}")
    return gateway


def read_contents(gateway: Gateway) -> Contents:
    """What stands in the files that are named. Raises BadSettings."""
    texts = {path: _text(Path(path)) for path in named_files(gateway)}
    return Contents(read_keys(gateway.api_keys_file), texts)


def named_files(gateway: Gateway) -> list[str]:
    """Certificates, keys of these, and sets of keys for tokens."""
    named = [gateway.upstream_cafile]
    if gateway.jwt is not None:
        named.append(gateway.jwt.jwks_file)
    if gateway.tls is not None:
        named += [gateway.tls.certfile, gateway.tls.keyfile, gateway.tls.client_cafile]
    return [path for path in named if path is not None]


def read_keys(path: str | None) -> dict[str, str]:
    """The API keys by their clients' names, of a file with `NAME KEY` in each line."""
    if path is None:
        return {}
    found: dict[str, str] = {}
    for number, line in enumerate(_text(Path(path)).splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        where = f"line {number} of {path}"
        if len(words) != _WORDS_OF_A_LINE:
            raise BadSettings(f"{where} is not NAME KEY")
        name, key = words
        if len(key) < _FEWEST_KEY_LETTERS:
            raise BadSettings(
                f"{where}: the key of {name} is too short to be safe; "
                "take one of openssl rand -hex 32"
            )
        if name in found or key in found.values():
            raise BadSettings(f"{where}: the name or the key of {name} was there before")
        found[name] = key
    if not found:
        raise BadSettings(f"{path} has no key: nobody could ask")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # of no text, of no name
        raise BadSettings(f"{str(path)!r} cannot be read: {error}") from error


def _from_file(config: Path) -> dict[str, Any]:
    text = _text(config)
    if not text.strip():
        raise BadSettings(f"{config} is empty")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadSettings(f"{config} is not TOML: {error}") from error


def _absolute(told: Any, folder: Path) -> Any:
    """`told`, in which files are named from where the settings lie."""
    if not isinstance(told, dict):
        return told
    return {
        key: str((folder / value).absolute())
        if key in _FILES and isinstance(value, str)
        else _absolute(value, folder)
        for key, value in told.items()
    }


def _with_upstreams(told: dict[str, Any], place: str, wrong: list[str]) -> dict[str, Any]:
    """`told` with every server understood; what is none is `wrong`."""
    found: dict[str, Any] = {}
    for key, value in told.items():
        where = f"{place}{key}"
        if key == "upstreams" and isinstance(value, list | tuple):
            found[key] = tuple(_upstreams(value, where, wrong))
        elif isinstance(value, dict):
            found[key] = _with_upstreams(value, f"{where}.", wrong)
        else:
            found[key] = value
    return found


def _upstreams(told: list[Any] | tuple[Any, ...], where: str, wrong: list[str]) -> list[Upstream]:
    found = []
    for value in told:
        try:
            found.append(Upstream.of(str(value)))
        except ValueError as error:
            wrong.append(f"{where}: {error}")
    return found


def _unknown(told: Mapping[str, Any], kind: type, place: str) -> list[str]:
    """What is no setting of `kind`, or of a table in it."""
    known = [field.name for field in fields(kind)]
    says = []
    for key, value in told.items():
        where = f"{place}{key}"
        if key not in known:
            hint = nearest(key, known) or f"; there are {', '.join(known)}"
            says.append(f"there is no setting {where!r}{hint}")
        elif isinstance(value, dict) and key in _TABLES:
            says += _unknown(value, _TABLES[key], f"{where}.")
        elif isinstance(value, dict) and key == "groups":
            for name, group in value.items():
                if isinstance(group, dict):
                    says += _unknown(group, Group, f"{where}.{name}.")
    return says


def _explained(error: ValidationError) -> list[str]:
    says = []
    for one in error.errors():
        place = ".".join(map(str, one["loc"]))
        message = one["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        if one["type"] == "value_error" or not place:
            says.append(f"{place}: {message}" if place else message)
        else:
            says.append(f"{place} is {spoken(one['input'])}, but {message}")
    return says
