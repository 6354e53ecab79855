"""A FastStream application of one's own, as docs/streaming.md has it, with a real Redis."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

import foretell
from foretell.errors import InvalidInput
from foretell.faststream import Scorer
from tests.transports.stream.daemons_redis import Redis
from tests.transports.stream.test_brokers import package

__all__ = ["package"]  # a fixture
DOCS = Path(__file__).parents[3] / "docs" / "streaming.md"


@pytest.mark.slow
def test_the_application_of_the_docs_scores_batches_and_puts_garbage_apart(
    tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    (source,) = [one for one in blocks if "faststream" in one]
    daemon = Redis(tmp_path)
    monkeypatch.setenv("MODEL", str(package))
    monkeypatch.setenv("REDIS", f"redis://127.0.0.1:{daemon.port}")
    app: dict[str, Any] = {"__name__": "app"}
    exec(compile(source, "app", "exec", dont_inherit=True), app)
    rows = [{"x": n % 20, "y": 9, "n": n} for n in range(300) if n % 20 != 13]

    async def scene() -> None:
        broker = app["broker"]
        async with broker:
            await broker.start()
            for row in rows:
                await broker.publish(json.dumps(row).encode(), stream="readings")
            await broker.publish(b"garbage", stream="readings")
            await broker.publish({"x": 13, "y": 2, "n": -1}, stream="readings")
            deadline = asyncio.get_running_loop().time() + 30
            while len(told(daemon, "anomalies")) + len(told(daemon, "dead")) < len(rows) + 2:
                assert asyncio.get_running_loop().time() < deadline
                await asyncio.sleep(0.05)

    try:
        asyncio.run(scene())
        results, dead = told(daemon, "anomalies"), told(daemon, "dead")
    finally:
        daemon.stop()
    model = foretell.load(package)
    wanted = model.predict([{"x": row["x"], "y": row["y"]} for row in rows])
    assert [one["n"] for one in results] == [row["n"] for row in rows]
    assert [one["prediction"] for one in results] == [*wanted["prediction"]]
    assert [one["code"] for one in dead] == ["invalid_input", "model_failed"]
    assert dead[0]["value"] == "garbage"


def told(daemon: Redis, name: str) -> list[dict[str, Any]]:
    """What FastStream wrote: its envelope holds the body behind a header's end."""
    import redis
    from faststream.redis.parser import BinaryMessageFormatV1

    with redis.Redis(port=daemon.port) as client:
        entries = [fields[b"__data__"] for _, fields in client.xrange(name)]
    return [json.loads(BinaryMessageFormatV1.parse(one)[0]) for one in entries]


def test_ids_are_of_positions_where_they_are_told(package: Path) -> None:
    scorer, same = Scorer(package), [[1, 2], {"x": 1, "y": 2}]
    first, again = (asyncio.run(scorer.score(same)).results for _ in range(2))
    assert first == again
    placed = asyncio.run(scorer.score(same, ["s/1", "s/2"])).results
    assert len({one["id"] for one in (*first, *placed)}) == 4
    with pytest.raises(InvalidInput, match="positions"):
        asyncio.run(scorer.score(same, ["s/1"]))
