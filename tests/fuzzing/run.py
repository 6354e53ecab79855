"""A run of Hypothesis over all that reads bytes of clients, and what became of them.

    python -m tests.fuzzing.run COUNT SEED

Good bodies are spoilt by edits. What comes out is a value, or one of the errors that clients are
told of; whatever else is printed with the smallest body that shows it. It is one process, whose
memory is limited: a body that ends the process is found, too.
"""

import collections
import resource
import sys
import time
import traceback

from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from foretell.errors import InvalidInput, TooLarge
from tests.fuzzing.targets import Target, targets

MOST_MEMORY = 3 * 2**30
MOST_GROWTH = 512 * 2**20
MOST_CPU_S = 2.0

_JSON = (
    b"null true false NaN Infinity -0 1e999 1e-999 0.1e1 1E+400 -1 128 256 2147483648 "
    b"9223372036854775808 18446744073709551616 -9223372036854775809 3.0 00 "
    b'"" "\\u0000" "\\ud800" "\\uffff" [] {} [[ ]] {{ }} [{ , : " \\ \xff \xed\xa0\x80 \xc3 \x00 '
    b'"name" "shape" "data" "parameters" "binary_data_size" "FP64" "BYTES" "columns" "inputs"'
)
_LONG = (b"9" * 400, b"[" * 2000, b'{"a":' * 1500)
TOKENS = (*_JSON.split(), *_LONG, b"\n", b"\r", b"\t", b'"\n"')
WORDS = (
    b"\x00\x00\x00\x00",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x00\x00\x00\x80",
    b"\xff" * 9 + b"\x01",
    b"\x80" * 9 + b"\x01",
    b"\x80" * 12,
    b"\x00\x00\xc0\x7f",
    b"\x00\x00\x00\x00\x00\x00\xf0\x7f",
    b"\x0a\x00",
    b"\x0b\x0c",
    b"\x0a\xff\xff\xff\xff\x0f",
)

Edit = tuple[int, int, int, bytes]


def spoilt(body: bytes, edits: list[Edit]) -> bytes:
    """`body` after `edits`: each is a kind, a place (of 65,536), a length, and what is put in."""
    told = bytearray(body)
    for kind, place, length, token in edits:
        at = place * (len(told) + 1) >> 16
        if kind == 0:
            told[at:at] = token
        elif kind == 1:
            told[at : at + len(token)] = token
        elif kind == 2:
            del told[at : at + length]
        elif kind == 3:
            told[at:at] = told[at : at + length] * 2
        elif kind == 4 and at < len(told):
            told[at] ^= 1 << length % 8
        elif kind == 5:
            told[at : at + length] = token
        elif kind == 6:
            del told[at:]
    return bytes(told)


def _edits(text: bool) -> st.SearchStrategy[list[Edit]]:
    known = st.sampled_from(TOKENS if text else (*WORDS, *TOKENS[:4]))
    token = known | st.binary(max_size=8)
    kind = st.sampled_from((0, 1, 2, 3, 4, 5, 5, 6))
    one = st.tuples(kind, st.integers(0, 2**16 - 1), st.integers(1, 40), token)
    return st.lists(one, min_size=1, max_size=4)


def fuzz(target: Target, count: int, start: int) -> collections.Counter[str]:
    """What became of `count` inputs of `target` or some more.

    Each example is some edits, of which the first, the first two, … are made to every body.
    """
    assert any(_outcome(target, body) == "read" for body in target.bodies), "nothing is read"
    seen: collections.Counter[str] = collections.Counter()

    @seed(start)
    @settings(
        max_examples=-(-count // (2 * len(target.bodies))),
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(_edits(target.text))
    def asked(edits: list[Edit]) -> None:
        for body in target.bodies:
            for number in range(len(edits)):
                seen[_outcome(target, spoilt(body, edits[: number + 1]))] += 1

    asked()
    return seen


def _outcome(target: Target, body: bytes) -> str:
    began = time.process_time()
    try:
        target.read(body)
    except (InvalidInput, TooLarge) as error:
        error.message.encode()
        outcome = error.code
    except DecodeError:
        # The gRPC door answers it with INVALID_ARGUMENT.
        assert not target.text
        outcome = "no message"
    except Exception as error:
        error.add_note(f"{target.name} was given {body[:2000]!r}")
        raise
    else:
        outcome = "read"
    assert time.process_time() - began < MOST_CPU_S, "too slow"
    return outcome


def _memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(count: int, start: int) -> int:
    """Fuzz all targets with `count` inputs together, print what became of them, tell failures."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    found = targets()
    each = -(-count // len(found))
    total: collections.Counter[str] = collections.Counter()
    before, began = _memory(), time.monotonic()
    failed: list[str] = []
    for target in found:
        sys.stderr.write(f"{target.name}\n")
        try:
            seen = fuzz(target, each, start)
        except Exception:  # noqa: BLE001 - the other targets are asked, too
            failed.append(f"{target.name}:\n{traceback.format_exc(limit=-4)}")
            continue
        total += seen
    grown = _memory() - before
    if grown > MOST_GROWTH:
        failed.append(f"the process grew by {grown} bytes")
    told = ", ".join(f"{number} {outcome}" for outcome, number in sorted(total.items()))
    seconds = time.monotonic() - began
    print(f"{total.total()} inputs for {len(found)} targets in {seconds:.0f} s: {told}")
    print(f"memory grew by {grown >> 20} MiB")
    print("\n".join(failed), end="")
    return len(failed)


if __name__ == "__main__":
    sys.exit(min(main(int(sys.argv[1]), int(sys.argv[2])), 100))
