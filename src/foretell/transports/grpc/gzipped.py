"""Gzipped messages: unpacked to no more than a message may have, and packed.

What is large is unpacked and packed in a thread: meanwhile, others are answered.
"""

import asyncio
import gzip
import zlib

from foretell.transports.grpc.errors import Code, GrpcRefusal, too_large

PACKET = 1400
_WORTH_A_THREAD = 2**16


async def unpacked(payload: bytes, most: int) -> bytes:
    """The bytes that were packed. Raises TooLarge, GrpcRefusal."""
    if len(payload) <= PACKET:  # a thousand times that, at most
        return _unpacked(payload, most)
    return await asyncio.to_thread(_unpacked, payload, most)


def _unpacked(payload: bytes, most: int) -> bytes:
    reader = zlib.decompressobj(wbits=31)
    try:
        plain = reader.decompress(payload, most + 1)
    except zlib.error:
        raise GrpcRefusal(Code.INTERNAL, "a message is not readable as gzip") from None
    if len(plain) > most:
        raise too_large(len(plain), most)
    if not reader.eof:
        raise GrpcRefusal(Code.INTERNAL, "a message is not readable as gzip: it is cut off")
    if reader.unused_data:
        raise GrpcRefusal(Code.INTERNAL, "a message goes on after its first gzip part")
    return plain


async def packed(payload: bytes) -> bytes:
    """The bytes packed the quickest way: numbers hardly get smaller."""
    if len(payload) < _WORTH_A_THREAD:
        return gzip.compress(payload, compresslevel=1)
    return await asyncio.to_thread(gzip.compress, payload, compresslevel=1)
