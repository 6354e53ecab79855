"""Predicting is what `foretell predict` does: rows from anywhere, answers for all readers."""

import math
import sys
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from rich.console import Console
from rich.table import Table

from foretell.app.reports import escape
from foretell.app.settings import ClientSettings
from foretell.client.clients import Client
from foretell.client.predictions import Predictions
from foretell.client.retrying import Retries
from foretell.codecs.tables.csv_tables import read_csv
from foretell.core.batch import Batch
from foretell.core.signature import Signature
from foretell.errors import BadSettings, InvalidInput, MissingExtra

MOST_SHOWN = 50
_PARQUET = (".parquet", ".pq")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_FORMS = (".json", ".ndjson", ".jsonl", ".csv", *_PARQUET)


def client_of(urls: str, settings: ClientSettings) -> Client:
    """A client of the servers in `urls`, with commas between them."""
    return Client(
        [url.strip() for url in urls.split(",") if url.strip()],
        balance=settings.balance,
        timeout_s=settings.timeout_s,
        api_key=settings.api_key,
        verify=settings.cafile or True,
        cert=settings.cert,
        retries=Retries(attempts=settings.attempts),
        max_reply_bytes=settings.max_reply_bytes,
    )


def rows_of(told: str | None, file: str | None, stdin: BinaryIO, signature: Signature) -> Any:
    """The rows that the command line names, for `Client.predict`.

    They are JSON on the command line, or a file (`-` is stdin) whose name tells its form. Raises
    InvalidInput, BadSettings.
    """
    if told is not None and file is not None:
        raise BadSettings("rows are given twice; give either JSON or --rows FILE")
    if told is not None:
        return _plain_rows(_decoded(told.encode(errors="surrogatepass"), "the JSON"), signature)
    if file is None and stdin.isatty():
        raise BadSettings(
            "no rows are given; give JSON, as in '{\"age\": 35}', or --rows FILE, or pipe them in"
        )
    if file is None or file == "-":
        return _from_text(stdin.read(), "stdin", signature)
    return _from_file(Path(file), signature)


def _from_file(path: Path, signature: Signature) -> Any:
    suffix = path.suffix.lower()
    if suffix not in _FORMS:
        raise InvalidInput(
            f"{path.name} has no form that is read; name it .json, .ndjson, .csv or .parquet"
        )
    try:
        body = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error
    if suffix == ".csv":
        return _from_csv(body, signature)
    if suffix in _PARQUET:
        return _from_parquet(path)
    return _from_text(body, str(path), signature)


def _from_csv(body: bytes, signature: Signature) -> Batch:
    return read_csv(signature, body, max_rows=sys.maxsize - 1)


def _from_parquet(path: Path) -> Any:
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("install foretell[columnar] to read Parquet") from error
    try:
        with pa.parquet.ParquetFile(path) as file:  # read_table makes columns of folders' names
            return file.read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InvalidInput(f"{path} is not readable as Parquet: {error}") from error


def _from_text(body: bytes, where: str, signature: Signature) -> Any:
    """JSON, or a row of JSON a line, or CSV, whichever it is."""
    body = body.removeprefix(_BYTE_ORDER_MARK)
    start = body.lstrip()[:1]
    if not start:
        raise InvalidInput(f"{where} is empty; give at least one row")
    if start not in (b"{", b"["):
        return _from_csv(body, signature)
    try:
        return _plain_rows(msgspec.json.decode(body), signature)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        lines = [line for line in body.splitlines() if line.strip()]
        if len(lines) < 2:
            return _plain_rows(_decoded(body, where), signature)
    return [_decoded(line, f"line {number} of {where}") for number, line in enumerate(lines, 1)]


def _decoded(text: bytes, what: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except RecursionError:
        raise InvalidInput(f"{what} is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{what} is not valid JSON: {error}") from None


def _plain_rows(told: Any, signature: Signature) -> Any:
    """Rows as JSON has them: one or a list of them, or a body of the server's routes."""
    if isinstance(told, dict):
        for key in ("instances", "features"):
            if set(told) == {key} and key not in signature.input_names:
                return told[key] if key == "instances" else [told[key]]
        return told
    if not isinstance(told, list):
        raise InvalidInput("the JSON is no row; give an object by name, an array, or several")
    if told and not any(isinstance(part, dict | list) for part in told):
        return [told]
    return told


def shown(console: Console, answer: Predictions, *, as_json: bool) -> Iterator[str]:
    """Print `answer` on a terminal, or give the lines for a program: a row each, or one document.

    NaN is `null`, as JSON has no other word for it.
    """
    outputs = {name: values.tolist() for name, values in answer.outputs.items()}
    encode = msgspec.json.Encoder().encode
    if as_json:
        told = {"model": answer.model, "version": answer.version, "outputs": outputs}
        yield msgspec.json.format(encode(told), indent=2).decode()
    elif not console.is_terminal:
        for row in zip(*outputs.values(), strict=True):
            yield encode(dict(zip(outputs, row, strict=True))).decode()
    else:
        _show(console, answer, outputs)


def _show(console: Console, answer: Predictions, outputs: Mapping[str, list[Any]]) -> None:
    console.print(f"[bold]{escape(answer.model)}[/] {escape(answer.version)}")
    table = Table("row", *map(escape, outputs), box=None, padding=(0, 3, 0, 2))
    rows = zip(*outputs.values(), strict=True)
    for number, row in enumerate(islice(rows, MOST_SHOWN)):
        table.add_row(str(number), *(escape(_cell(value)) for value in row))
    console.print(table)
    if len(answer) > MOST_SHOWN:
        console.print(f"  … and {len(answer) - MOST_SHOWN} more rows; --json shows all")


def _cell(value: Any) -> str:
    match value:
        case None:
            return "–"  # noqa: RUF001 - a dash for what is missing
        case float():
            return "–" if math.isnan(value) else f"{value:.6g}"  # noqa: RUF001
        case list():
            return ", ".join(map(_cell, value))
        case _:
            return str(value)
