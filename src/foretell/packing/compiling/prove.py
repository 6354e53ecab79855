"""A proof compares a candidate with its original: batch in, batch out, on points of every kind.

Rules:

1. Labels, texts and every other answer that is no float must be identical.
2. A float may differ by `tolerance`, relative to its own size or, when that is smaller, to 1
   for probabilities and to the median size of the kind's answers for all else.
3. Missing and infinite answers must be so in both, in the same places.
4. What the candidate raises on points that the original answers fails it; points on which the
   original itself raises prove nothing and are left out.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from foretell.core.batch import Batch
from foretell.core.field import Array
from foretell.core.servable import Servable
from foretell.packing.compiling.points import Points

TOLERANCE = 1e-6


@dataclass(slots=True)
class Proof:
    """What was compared: rows by kind, the greatest error by kind, and why it failed, if so."""

    points: dict[str, int] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    wrong_labels: dict[str, int] = field(default_factory=dict)
    failure: str | None = None

    @property
    def max_error(self) -> float:
        return max(self.errors.values(), default=0.0)

    def describe(self) -> dict[str, Any]:
        """As a compile report holds it."""
        told: dict[str, Any] = {
            "proven": self.failure is None,
            "max_error": self.max_error if np.isfinite(self.max_error) else None,
            "points": self.points,
        }
        if self.wrong_labels:
            told["wrong_labels"] = self.wrong_labels
        return told


Answers = dict[str, tuple[Batch, Batch]]
"""Kind -> the points that the original answers, and its answers."""

_MOST_CALLS = 64
_LONGEST = 160


def original_answers(original: Servable, points: Points) -> Answers:
    """The original's answers by kind, without the points on which it raises."""
    answers: Answers = {}
    for kind, batch in points.batches.items():
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            parts = list(_answered(original, batch, [_MOST_CALLS]))
        if parts:
            asked, given = zip(*parts, strict=True)
            answers[kind] = Batch.concat(asked), Batch.concat(given)
    return answers


def _answered(original: Servable, batch: Batch, calls: list[int]) -> Iterator[tuple[Batch, Batch]]:
    if not batch.n_rows or not calls[0]:
        return
    calls[0] -= 1
    try:
        answer = original.predict(batch)
    except Exception:  # noqa: BLE001  a model may raise anything: its halves are asked apart
        if batch.n_rows > 1:
            half = batch.n_rows // 2
            yield from _answered(original, batch.slice(0, half), calls)
            yield from _answered(original, batch.slice(half, batch.n_rows), calls)
        return
    yield batch, answer


def prove(candidate: Servable, expected: Answers) -> Proof:
    """Compare `candidate` with what the original is known to answer."""
    proof = Proof()
    for kind, (batch, wanted) in expected.items():
        proof.points[kind] = batch.n_rows
        try:
            given = candidate.predict(batch)
        except Exception as error:  # noqa: BLE001  a candidate may fail in any way
            said = str(error).strip().splitlines() or [type(error).__name__]
            proof.failure = f"fails on {kind} points: {said[0][:_LONGEST]}"
            return proof
        told = _compare(proof, kind, given, wanted)
        if told is not None and proof.failure is None:
            proof.failure = told
    if not proof.points:
        proof.failure = "the original answers no point"
    return proof


def _compare(proof: Proof, kind: str, given: Batch, wanted: Batch) -> str | None:
    told: str | None = None
    for place, answer in enumerate(wanted.columns):
        name, other = wanted.fields[place].name, given.columns[place]
        if other.shape != answer.shape or other.dtype != answer.dtype:
            return (
                f"{name} is {other.dtype} {other.shape[1:]} in place of "
                f"{answer.dtype} {answer.shape[1:]}"
            )
        if answer.dtype.kind != "f":
            same = np.asarray(other == answer, dtype=bool).reshape(len(answer), -1).all(axis=1)
            wrong = int((~same).sum())
            if wrong:
                proof.wrong_labels[kind] = proof.wrong_labels.get(kind, 0) + wrong
                row = int(np.argmin(same))
                told = told or (
                    f"{wrong} of {len(answer)} {kind} points get another {name}: "
                    f"{other[row]} in place of {answer[row]}"
                )
            continue
        error = error_of(other, answer, unit=name.startswith("probability"))
        proof.errors[kind] = max(proof.errors.get(kind, 0.0), error)
        if not error <= TOLERANCE:
            told = told or f"{name} is off by {error:.2g} on {kind} points"
    return told


def error_of(given: Array, wanted: Array, *, unit: bool) -> float:
    """The greatest relative error between float arrays of one shape.

    Infinite where one is not finite and the other differs.
    """
    if not wanted.size:
        return 0.0
    given, wanted = given.astype(np.float64), wanted.astype(np.float64)
    finite = np.isfinite(wanted)
    with np.errstate(all="ignore"):
        same = (given == wanted) | (np.isnan(given) & np.isnan(wanted))
        if not same[~finite].all() or not np.isfinite(given[finite]).all():
            return float("inf")
        sizes = np.abs(wanted[finite])
        scale = 1.0 if unit else float(np.median(sizes)) if sizes.size else 1.0
        apart = np.abs(given[finite] - wanted[finite])
        relative = np.where(apart == 0.0, 0.0, apart / np.maximum(sizes, max(scale, 1e-300)))
    return float(relative.max(initial=0.0))
