"""The command `foretell loadtest`: from the command line to what was measured."""

from __future__ import annotations

import asyncio
import io
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

import foretell
from foretell.app.loadtesting.choices import LoadSettings
from foretell.app.loadtesting.showing import watched
from foretell.app.predicting import rows_of
from foretell.client.clients import Client
from foretell.codecs.asking.rows import batch_of
from foretell.core.signature import Signature
from foretell.errors import BadSettings
from foretell.loadtest import rows
from foretell.loadtest.comparing import LoadTest
from foretell.loadtest.payloads import MOST_REQUESTS, Asked, batches_of
from foretell.loadtest.report import Report
from foretell.loadtest.results import Result
from foretell.loadtest.sending.links import Place

_MOST_MADE = 100_000


def carry_out(
    url: str, model: str, version: str | None, settings: LoadSettings, console: Console | None
) -> Report:
    """The report of a load test; progress goes to `console`. Raises ForetellError."""
    if settings.html is not None and not settings.html.absolute().parent.is_dir():
        raise BadSettings(f"there is no folder {settings.html.parent} to write the report to")
    place = Place.of(url, cafile=settings.cafile, api_key=settings.api_key)
    verify = True if settings.cafile is None else settings.cafile
    with Client(url, api_key=settings.api_key, verify=verify) as client:
        signature = client.signature(model, version=version)
    asked = _asked(model, version, signature, settings)
    test = LoadTest(place, asked, settings.protocols(url), settings.plan)
    began = datetime.now(UTC)
    results = _runner()(_results(test, console))
    report = Report(
        url=url,
        model=model,
        version=version,
        began=began.isoformat(timespec="seconds"),
        generator=f"foretell {foretell.__version__}, {os.cpu_count()} cores",
        results=results,
    )
    if settings.html is not None:
        settings.html.write_text(report.html(), encoding="utf-8")
    return report


async def _results(test: LoadTest, console: Console | None) -> list[Result]:
    await test.try_out()
    with watched(console, test.plan) as watch:
        return await test.carry_out(watch)


def _asked(model: str, version: str | None, signature: Signature, settings: LoadSettings) -> Asked:
    """The rows to send. Raises InvalidInput."""
    if settings.sample is None:
        wanted = max(settings.rows, min(MOST_REQUESTS * settings.rows, _MOST_MADE))
        batch = rows.made(signature, wanted)
    else:
        found = rows_of(None, str(settings.sample), io.BytesIO(), signature)
        batch = batch_of(signature, found)
    return Asked(model, version, signature, batches_of(batch, settings.rows))


def _runner() -> Callable[[Any], Any]:
    """What runs a coroutine to its end, on the fastest event loop there is."""
    if sys.platform == "win32":
        return asyncio.run
    import uvloop

    def run(work: Any) -> Any:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)

    return run
