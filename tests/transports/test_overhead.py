"""What parsing makes of a message is known before it is parsed."""

import asyncio
import gzip
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from foretell.codecs import messages
from foretell.errors import TooLarge
from foretell.transports.asgi.bodies import Bodies
from foretell.transports.grpc.door import GrpcLimits
from foretell.transports.grpc.errors import Code
from foretell.transports.grpc.overhead import LOOKED_AT_BYTES, weigh, weighed
from foretell.transports.grpc.rpc import Rpc
from foretell.transports.grpc.wire import Streaming, Unary, Wire
from tests.transports.test_wire import Told, call, frame

BATCH = "prediction.BatchPredictRequest"
INFER = "inference.ModelInferRequest"
MOST = GrpcLimits().max_overhead_bytes


def part(tag: int, content: bytes, *, overlong: bool = False) -> bytes:
    """A field behind its tag (which may be written in more bytes than needed) and its length."""
    digits, size = bytearray(), len(content)
    while size > 127:
        digits.append(size & 127 | 128)
        size >>= 7
    told = bytes([tag | 128, 0]) if overlong else bytes([tag])
    return told + bytes([*digits, size]) + content


BOMBS = {
    "rows": (BATCH, b"\x0a\x00" * 2**19),
    "inputs": (INFER, b"\x2a\x00" * 2**19),
    "outputs": (INFER, b"\x32\x00" * 2**19),
    "raw contents": (INFER, b"\x3a\x00" * 2**19),
    "parameters": (INFER, b"\x22\x00" * 2**19),
    "texts": (INFER, part(0x2A, part(0x2A, b"\x42\x00" * 2**19))),
    "texts with long tags": (INFER, part(0x2A, part(0x2A, b"\xc2\x00\x00" * 2**19))),
    "packed numbers": (INFER, part(0x2A, part(0x2A, part(0x1A, bytes(2**21))))),
    "bare numbers": (INFER, part(0x2A, part(0x2A, b"\x18\x00" * 2**19))),
    "sizes": (INFER, part(0x2A, part(0x1A, bytes(2**21)))),
    "fields nobody knows": (INFER, b"\x78\x00" * 2**19),
    "rows behind a cut": (BATCH, b"\x0a\x00" * 2**19 + b"\x0a"),
    "in contents with a long tag": (
        INFER,
        part(0x2A, part(0x2A, b"\x42\x00" * 2**19, overlong=True)),
    ),
}


class Unparsed:
    """A message's class that is never to be parsed."""

    def __init__(self, name: str) -> None:
        self.DESCRIPTOR = messages.message(name).DESCRIPTOR

    def FromString(self, _: bytes) -> Any:  # noqa: N802 - protobuf's name
        raise AssertionError("it was parsed")


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("streamed", [False, True], ids=["one", "stream"])
@pytest.mark.parametrize("bomb", BOMBS)
def test_what_would_become_huge_is_refused_before_it_is_parsed(
    bomb: str, streamed: bool, packed: bool
) -> None:
    name, payload = BOMBS[bomb]

    async def one(_: Any, __: Rpc) -> bytes:
        return b""

    async def many(requests: AsyncIterator[Any], _: Rpc) -> AsyncIterator[bytes]:
        async for _request in requests:
            yield b""

    request = Unparsed(name)
    method = Streaming(request, many) if streamed else Unary(request, one)
    wire = Wire(
        {"/n.S/M": method}, Bodies(2**28), max_message_bytes=2**26, max_overhead_bytes=2**24
    )
    sent = frame(gzip.compress(payload, 1), 1) if packed else frame(payload)
    answer = Told(asyncio.run(call("/n.S/M", sent, wire=wire, grpc_encoding="gzip")))
    assert answer.code == Code.RESOURCE_EXHAUSTED
    assert "so many parts" in answer.message


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        (BATCH, {"instances": [{"features": [0.5] * 4}] * 100_000}),
        (INFER, {"inputs": [{"name": "x", "contents": {"int64_contents": [7] * 2_000_000}}]}),
        (INFER, {"inputs": [{"name": "x", "contents": {"fp64_contents": [7.5] * 4_000_000}}]}),
        (INFER, {"inputs": [{"name": "x", "contents": {"bytes_contents": [b"text"] * 500_000}}]}),
        (INFER, {"inputs": [{"name": "x"}], "raw_input_contents": [bytes(2**25)]}),
    ],
)
def test_what_has_its_size_for_its_rows_is_let_through(name: str, fields: dict[str, Any]) -> None:
    kind = messages.message(name)
    asyncio.run(weigh(kind(**fields).SerializeToString(), kind, MOST))


def test_the_rows_of_the_limit_are_never_refused() -> None:
    rows = GrpcLimits(max_message_bytes=2**20, max_rows=10**6)
    kind = messages.message(BATCH)
    asyncio.run(weigh(b"\x0a\x00" * 10**6, kind, rows.max_overhead_bytes))


@given(st.binary(max_size=200), st.sampled_from([BATCH, INFER]))
@example(b"\x0b\x0b\x0c", INFER)
@example(b"\x2a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", INFER)
def test_garbage_is_weighed_and_left_to_the_parser(garbage: bytes, name: str) -> None:
    for _ in weighed(garbage, messages.message(name), MOST):
        raise AssertionError("so few bytes need no pause")


def test_others_have_their_turn_while_a_message_is_looked_at() -> None:
    async def longest_silence() -> float:
        silence, looking = 0.0, True

        async def others() -> None:
            nonlocal silence
            while looking:
                before = time.perf_counter()
                await asyncio.sleep(0)
                silence = max(silence, time.perf_counter() - before)

        waiting = asyncio.ensure_future(others())
        with pytest.raises(TooLarge):
            await weigh(BOMBS["texts"][1], messages.message(INFER), 2**24)
        looking = False
        await waiting
        return silence

    whole = time.perf_counter()
    silence = asyncio.run(longest_silence())
    assert silence < (time.perf_counter() - whole) / 4


def test_short_messages_are_not_looked_at() -> None:
    kind = messages.message(BATCH)
    payload = b"\x0a\x00" * (LOOKED_AT_BYTES // 2)

    async def one(request: Any, __: Rpc) -> bytes:
        return str(len(request.instances)).encode()

    wire = Wire(
        {"/n.S/M": Unary(kind, one)}, Bodies(2**28), max_message_bytes=2**26, max_overhead_bytes=0
    )
    sent = asyncio.run(call("/n.S/M", frame(payload), wire=wire))
    assert b"%d" % (LOOKED_AT_BYTES // 2) in sent[1]["body"]
