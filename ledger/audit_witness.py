"""What witnesses saw of the log: the times between which events arose, and how long nobody looked.

A witness says: at this time this was the largest tree that I had seen. Its clock is not ours, so
events may stand outside of its times by a minute.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Final

from ledger.checkpoint import Checkpoint, parse_note
from ledger.cosignature import WitnessKey, cosignatures
from ledger.values import UnixMs, iso_of

SLACK_MS: Final = 60_000
"""Clocks differ, and a checkpoint is on its way to a witness for a while."""

MAX_GAP_S: Final = 24 * 3600

AtOf = Callable[[int], UnixMs]
"""Returns the time of the event at a position."""


@dataclass(frozen=True, slots=True)
class Witnesses:
    """The witnesses that the auditor trusts, how many must agree, and how often they must see."""

    keys: tuple[WitnessKey, ...]
    quorum: int = 1
    max_gap_s: int = MAX_GAP_S

    def __post_init__(self) -> None:
        """Refuse a quorum that these witnesses can never reach, or that is none."""
        if not 0 < self.quorum <= len(set(self.keys)):
            raise ValueError(f"a quorum of {len(set(self.keys))} witnesses is not {self.quorum}")


@dataclass(frozen=True, slots=True)
class Seen:
    """One head that a witness saw, and when (Unix milliseconds)."""

    size: int
    root: bytes
    witness: str
    at: UnixMs


def seen_in(note: str, checkpoint: Checkpoint, witnesses: Witnesses) -> list[Seen]:
    """Return what trusted witnesses signed of a checkpoint that the log's key signed."""
    return [
        Seen(checkpoint.size, checkpoint.root, found.key.vkey(), UnixMs(found.at * 1000))
        for found in cosignatures(parse_note(note), witnesses.keys)
    ]


@dataclass(slots=True)
class Windows:
    """Between which times an event must have arisen, by what was seen; asked in any order."""

    _sizes: list[int] = field(default_factory=list)
    _latest: list[int] = field(default_factory=list)
    _earliest: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, seen: Sequence[Seen]) -> Windows:
        """Return the windows between these heads."""
        heads = sorted(seen, key=lambda item: item.size)
        times = [int(item.at) for item in heads]
        return cls(
            [item.size for item in heads],
            list(accumulate(times, max)),
            list(accumulate(reversed(times), min))[::-1],
        )

    def c11_in_its_window(self, position: int, at: UnixMs) -> Iterator[str]:
        """C11: an event is not older than a smaller tree, nor younger than a tree that holds it."""
        first = bisect_left(self._sizes, position)
        if first and at < self._latest[first - 1] - SLACK_MS:
            seen = iso_of(UnixMs(self._latest[first - 1]))
            yield f"the event is of {iso_of(at)}, but at {seen} a witness saw the log without it"
        if first < len(self._sizes) and at > self._earliest[first] + SLACK_MS:
            seen = iso_of(UnixMs(self._earliest[first]))
            yield f"the event is of {iso_of(at)}, but a witness saw it already at {seen}"


def c22_quorum(heads: Sequence[tuple[int, UnixMs]], quorum: int) -> Iterator[str]:
    """C22: enough witnesses saw a head of this very log."""
    if not heads:
        yield f"no head of this log was seen by {quorum} of the named witnesses"


def c22_gaps(
    heads: Sequence[tuple[int, UnixMs]], size: int, max_gap_s: int, at_of: AtOf
) -> Iterator[str]:
    """C22: from the first head that was seen on, no event waited too long to be seen.

    For the events after the newest head, the log's own last event says how late it has become.
    """
    for (before, _), (after, seen) in pairwise(heads):
        waited = seen - at_of(before + 1) if after > before else 0
        if waited > max_gap_s * 1000:
            yield f"the event at {before + 1} waited {waited // 1000} s for a witness"
    if heads and heads[-1][0] < size:
        waited = at_of(size) - at_of(heads[-1][0] + 1)
        if waited > max_gap_s * 1000:
            yield (
                f"no witness saw the log after size {heads[-1][0]}, though it goes on for"
                f" {waited // 1000} s"
            )


def quorum_heads(
    seen: Sequence[Seen], quorum: int, is_ours: Callable[[int, bytes], bool]
) -> list[tuple[int, UnixMs]]:
    """Return the sizes of this log that a quorum saw, each with the time when it was reached."""
    times: dict[tuple[int, bytes], dict[str, UnixMs]] = {}
    for item in seen:
        at = times.setdefault((item.size, item.root), {})
        at[item.witness] = min(item.at, at.get(item.witness, item.at))
    return sorted(
        (size, sorted(by.values())[quorum - 1])
        for (size, root), by in times.items()
        if len(by) >= quorum and is_ours(size, root)
    )
