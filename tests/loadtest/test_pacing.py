"""Alarms, by the kernel's timers and by the event loop's."""

import asyncio
import sys
import time

import pytest

from foretell.loadtest.sending.pacing import Alarm


@pytest.mark.parametrize("platform", ["linux", "other"])
def test_an_alarm_rings_once_and_not_early(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if platform == "linux" and sys.platform != "linux":
        pytest.skip("the kernel's timers are Linux's")
    monkeypatch.setattr(sys, "platform", platform)
    rang: list[float] = []

    async def work() -> float:
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def ring() -> None:
            alarm.clear()
            rang.append(time.monotonic())
            done.set()

        alarm = Alarm(loop, ring)
        alarm.set(time.monotonic() + 0.01)
        alarm.set(at := time.monotonic() + 0.03)  # the first one is forgotten
        await asyncio.wait_for(done.wait(), 10)
        done.clear()
        alarm.set(time.monotonic() + 0.01)
        alarm.clear()
        alarm.set(time.monotonic() - 1)  # at once
        await asyncio.wait_for(done.wait(), 10)
        alarm.set(time.monotonic() + 0.005)
        alarm.close()
        await asyncio.sleep(0.02)  # in which it would ring
        return at

    at = asyncio.run(work())
    assert len(rang) == 2
    assert rang[0] >= at - 0.0015  # a loop's clock has whole milliseconds
