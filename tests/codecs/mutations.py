"""A process that reads spoilt Arrow and Parquet bodies, and tells what became of them.

    python -m tests.codecs.mutations COUNT SEED

In a process of its own, so that a crash of the library is seen as one. Memory is limited: a
body that grows to gigabytes is a crash, too.
"""

import collections
import io
import random
import resource
import struct
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from foretell.codecs.tables import arrow_tables
from foretell.codecs.tables.arrow_tables import TableLimits
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.signature import Signature
from foretell.errors import InvalidInput, TooLarge

LIMITS = TableLimits(max_rows=10_000, max_bytes=8 * 2**20)
SIGNATURE = Signature(
    (
        Field("x", Datatype.FP64, nullable=True),
        Field("n", Datatype.INT64),
        Field("s", Datatype.BYTES, nullable=True),
        Field("v", Datatype.FP64, shape=(2,)),
    ),
    (Field("prediction", Datatype.INT64),),
)
MOST_MEMORY = 3 * 2**30
MOST_SECONDS = 20.0
_EXTREMES = (0, 1, -1, 127, 255, 2**15, 2**31 - 1, -(2**31), 2**40, 2**63 - 1, -(2**63))


def bodies() -> dict[str, tuple[Any, bytes]]:
    """Good bodies of every kind, with what reads them."""
    rows = 50
    draw = np.random.default_rng(1)
    texts = [None if i % 7 == 0 else f"text number {i % 5}" for i in range(rows)]
    vectors = draw.normal(size=(rows, 2)).tolist()
    table = pa.table(
        {
            "x": pa.array([None if i % 5 == 0 else float(i) for i in range(rows)]),
            "n": pa.array(range(rows)),
            "s": pa.array(texts),
            "v": pa.array(vectors, pa.list_(pa.float64())),
        }
    )
    kinds = {
        "plain": table,
        "dictionary": table.set_column(2, "s", table["s"].dictionary_encode()),
        "views": table.set_column(2, "s", table["s"].cast(pa.string_view())),
        "fixed": table.set_column(3, "v", pa.array(vectors, pa.list_(pa.float64(), 2))),
    }
    told: dict[str, tuple[Any, bytes]] = {}
    for name, one in kinds.items():
        for packing in (None, "zstd", "lz4"):
            out = io.BytesIO()
            options = pa.ipc.IpcWriteOptions(compression=packing)
            with pa.ipc.new_stream(out, one.schema, options=options) as writer:
                writer.write_table(one, max_chunksize=20)
            told[f"{name} {packing}"] = arrow_tables.read_stream, out.getvalue()
    for packing in ("none", "snappy", "zstd", "gzip"):
        for plain in (True, False):
            for version in ("1.0", "2.0"):
                out = io.BytesIO()
                pq.write_table(
                    table,
                    out,
                    compression=packing,
                    use_dictionary=not plain,
                    data_page_version=version,
                    row_group_size=30,
                )
                name = f"parquet {packing} {plain} {version}"
                told[name] = arrow_tables.read_parquet, out.getvalue()
    return told


def spoilt(body: bytes, draw: random.Random) -> bytes:
    """`body` with something wrong somewhere."""
    told = bytearray(body)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        # half of them where the metadata is: at the beginning and at the end
        edge = draw.choice((len(told), 400, -600))
        at = draw.randrange(min(edge, len(told))) if edge > 0 else draw.randrange(len(told))
        if edge < 0:
            at = max(len(told) + edge, 0) + at % min(-edge, len(told))
        match draw.randrange(6):
            case 0:
                told[at] ^= 1 << draw.randrange(8)
            case 1:
                told[at] = draw.randrange(256)
            case 2:
                number = draw.choice(_EXTREMES) + draw.choice((0, 0, 1, -1))
                size, form = draw.choice(((4, "<I"), (8, "<Q")))
                told[at : at + size] = struct.pack(form, number % 2 ** (8 * size))
            case 3:
                del told[at : at + draw.choice((1, 4, 8, 100))]
            case 4:
                start = draw.randrange(len(told))
                told[at:at] = told[start : start + draw.choice((1, 8, 200))]
            case _:
                del told[at:]
        if not told:
            return b""
    return bytes(told)


def outcomes(count: int, seed: int) -> Iterator[str]:
    """What became of each of `count` spoilt bodies. Whatever else is raised ends this."""
    good, draw = bodies(), random.Random(seed)
    for name, (read, body) in good.items():
        assert read(SIGNATURE, body, LIMITS).n_rows == 50, name
    names = sorted(good)
    for number in range(count):
        name = draw.choice(names)
        read, body = good[name]
        told = spoilt(body, draw)
        began = time.perf_counter()
        sys.stderr.write(f"\r{number} {name}: ")
        try:
            read(SIGNATURE, told, LIMITS)
        except (InvalidInput, TooLarge) as error:
            yield error.code
        else:
            yield "read"
        assert time.perf_counter() - began < MOST_SECONDS


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    print(dict(collections.Counter(outcomes(int(sys.argv[1]), int(sys.argv[2])))))
