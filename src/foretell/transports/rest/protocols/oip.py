"""The inference routes of the Open Inference Protocol: `/v2/models/{m}[/versions/{v}]/infer`.

Rules:

1. `Inference-Header-Content-Length` alone says whether a body is JSON or has tensors after it.
2. A deadline is the parameter `timeout`, in microseconds, or `X-Request-Timeout-Ms`: the sooner.
3. A reply is compressed when Accept-Encoding names exactly one coding, as Triton's client does
   when it is told to. The lists that HTTP libraries send on their own are not taken as a wish.
"""

import asyncio
import zlib
from functools import partial

from foretell.codecs.oip_json import OipJson
from foretell.core.call import Target
from foretell.engine.dataplane import DataPlane
from foretell.engine.fleet import Loaded
from foretell.errors import InvalidInput
from foretell.transports.asgi.bodies import Bodies
from foretell.transports.asgi.caching import cache_headers
from foretell.transports.asgi.exchange import Told
from foretell.transports.rest.exchange import Reply
from foretell.transports.rest.hot import RestLimits
from foretell.transports.rest.protocols.posted import PostedRoutes, Posting

_HEADER_LENGTH = b"inference-header-content-length"
_MOST_DIGITS = 18  # int() refuses thousands of digits
_WINDOWS = {b"gzip": 31, b"deflate": 15}
_WORTH_COMPRESSING = 1024
_WORTH_A_THREAD = 2**16


def routes(dataplane: DataPlane, limits: RestLimits, bodies: Bodies) -> PostedRoutes:
    """The inference routes of every loaded version."""
    posted = PostedRoutes(dataplane, limits, bodies, _target_of)
    fleet = dataplane.fleet

    def add(path: str, target: Target, loaded: Loaded) -> None:
        codec = OipJson(loaded.signature)
        posted.add(f"{path}/infer", target, partial(_infer, posted, target, codec, limits.max_rows))

    for name, versions in fleet.models.items():
        add(f"/v2/models/{name}", Target(name), fleet.resolve(Target(name)))
        for version, loaded in versions.items():
            add(f"/v2/models/{name}/versions/{version}", Target(name, version), loaded)
    return posted


async def _infer(
    posted: PostedRoutes, target: Target, codec: OipJson, max_rows: int, posting: Posting
) -> Reply:
    length = _header_length(posting.told)
    asked = await posted.read(posting, lambda body: codec.decode(body, length, max_rows=max_rows))
    answer = await posted.ask(target, asked.batch, posting, timeout_s=asked.timeout_s)
    body, header = codec.encode(answer.outputs, asked, model=answer.model, version=answer.version)
    if header is None:
        return await _compressed(posting.told, Reply(body, headers=cache_headers(answer)))
    headers = ((_HEADER_LENGTH, b"%d" % header), *cache_headers(answer))
    return await _compressed(posting.told, Reply(body, b"application/octet-stream", headers))


def _target_of(path: str) -> Target | None:
    match path.split("/"):
        case ["", "v2", "models", name, "infer"]:
            return Target(name)
        case ["", "v2", "models", name, "versions", version, "infer"]:
            return Target(name, version)
    return None


def _header_length(told: Told) -> int | None:
    """The length of the JSON that a body begins with; None when it is all of it."""
    sent = told.get(_HEADER_LENGTH)
    if sent is None:
        return None
    if not sent.isdigit() or len(sent) > _MOST_DIGITS:
        raise InvalidInput(
            f"Inference-Header-Content-Length is {sent[:40].decode('latin-1')!r}, "
            "but must be a number of bytes"
        )
    return int(sent)


async def _compressed(told: Told, reply: Reply) -> Reply:
    """The reply in the one coding that Accept-Encoding names, when there is exactly one."""
    coding, _, weight = told.get(b"accept-encoding", b"").lower().partition(b";")
    coding = coding.strip()
    bits = _WINDOWS.get(coding)
    if bits is None or len(reply.body) < _WORTH_COMPRESSING or weight.strip() in (b"q=0", b"q=0.0"):
        return reply
    if len(reply.body) < _WORTH_A_THREAD:
        body = _squeezed(reply.body, bits)
    else:
        body = await asyncio.to_thread(_squeezed, reply.body, bits)
    return reply._replace(body=body, headers=(*reply.headers, (b"content-encoding", coding)))


def _squeezed(body: bytes, bits: int) -> bytes:
    squeezer = zlib.compressobj(1, wbits=bits)  # the quickest: numbers hardly get smaller
    return squeezer.compress(body) + squeezer.flush()
