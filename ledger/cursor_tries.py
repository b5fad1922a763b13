"""How often the events of a cursor were handed out, in a list that stays short. Pure.

An event is handed out with all that lie before it, so the counts never rise along the feed and a
few steps hold them, however many events there are.
"""

from __future__ import annotations

from collections.abc import Iterator

from ledger.cursor_events import MAX_ATTEMPTS, Tries

Steps = tuple[Tries, ...]


def count_of(tries: Steps, pos: int) -> int:
    """Return how often the event at `pos` was handed out."""
    return next((step.count for step in tries if pos <= step.through), 0)


def counted(tries: Steps, after: int, to: int, by: int) -> Steps:
    """Return the counts with those of the events after `after` up to `to` changed by `by`."""
    if to <= after:
        return tries
    steps: list[Tries] = []
    for through, count in _pieces(tries, after, to):
        start = steps[-1].through if steps else 0
        inside = after <= start and through <= to
        counts = min(MAX_ATTEMPTS, max(0, count + by)) if inside else count
        if steps and steps[-1].count == counts:
            steps.pop()
        steps.append(Tries(through=through, count=counts))
    return tuple(steps)


def _pieces(tries: Steps, after: int, to: int) -> Iterator[tuple[int, int]]:
    """Return the steps cut at both ends of a range, so that each lies inside or outside of it."""
    ends = {step.through for step in tries} | {to} | ({after} if after else set())
    for through in sorted(ends):
        yield through, count_of(tries, through)


def after_place(tries: Steps, pos: int) -> Steps:
    """Return the counts of what lies after `pos`."""
    return tuple(step for step in tries if step.through > pos)


def lowered(tries: Steps, most: int) -> Steps:
    """Return the counts with none above `most`."""
    steps: list[Tries] = []
    for step in tries:
        count = min(step.count, most)
        if steps and steps[-1].count == count:
            steps.pop()
        steps.append(Tries(through=step.through, count=count))
    return tuple(steps)
