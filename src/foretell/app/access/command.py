"""The commands `foretell key …`: they make the keys that callers of a server send."""

import os
import secrets
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import typer

from foretell.errors import BadSettings
from foretell.transports.asgi.access.keyring import Keyring

_RANDOM_BYTES = 32
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"

app = typer.Typer(
    name="key",
    help="Make the keys that callers of a server send.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def root() -> None:
    """Make the keys that callers of a server send."""


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Who has it: letters, digits, - and _.")],
    file: Annotated[
        Path, typer.Option("--file", "-f", help="The file of keys, which is made if missing.")
    ] = Path("keys.toml"),
    model: Annotated[
        list[str] | None, typer.Option(help="A model that it is for [all]; several times.")
    ] = None,
    admin: Annotated[bool, typer.Option("--admin", help="Let it load and unload models.")] = False,
) -> None:
    """Make a key: it is shown once, and the file gets its digest alone.

    Servers with --keys-file FILE take it within a second. To end it, delete its lines.
    """
    if not name or name.strip(_LETTERS):
        raise BadSettings(f"{name!r} is no name of a key; take letters, digits, - and _")
    if file.exists() and name in Keyring(file).names:
        raise BadSettings(f"there is a key {name!r} in {file}; take another name, or delete it")
    key = f"ftl_{secrets.token_urlsafe(_RANDOM_BYTES)}"
    lines = [f"[keys.{name}]", f'sha256 = "{sha256(key.encode()).hexdigest()}"']
    if model:
        named = [word for word in model if word.isprintable() and not set(word) & set("\"'\\")]
        if named != model:
            raise BadSettings("a model's name has no quotes, backslashes or line ends")
        quoted = ", ".join(f'"{word}"' for word in named)
        lines.append(f"models = [{quoted}]")
    if admin:
        lines.append("admin = true")
    try:
        handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(handle, "a", encoding="utf-8") as out:
            out.write("\n" + "\n".join(lines) + "\n")
    except OSError as error:
        raise BadSettings(f"the file of keys {file} cannot be written: {error}") from error
    typer.echo(key)
