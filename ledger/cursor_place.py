"""Moving a cursor: by its owner, to a new numbering, or back to what was parked. Pure."""

from __future__ import annotations

from typing import Literal

from ledger.cursor_commands import Renumber, ReplayParked, Seek
from ledger.cursor_errors import CursorRefused
from ledger.cursor_events import MAX_REPLAYS, CursorReplayed, CursorSought, CursorState, Place
from ledger.cursor_lease import to_replay
from ledger.decision import Decision, decided


def seek(state: CursorState, command: Seek) -> Decision:
    """Move the cursor; every older token is void. Where it was just moved to is no news."""
    # What lies ahead of the new place comes in its turn, parked or not.
    behind = tuple(p for p in to_replay(state) if p.position <= command.to.position)
    fresh = CursorState(
        seq=state.seq,
        generation=state.generation,
        settings=state.settings,
        acked=command.to,
        token=state.seq,
        replays=behind,
    )
    return Decision() if fresh == state else _sought(state, fresh, "owner", command.reason)


def renumber(state: CursorState, command: Renumber) -> Decision:
    """Carry it over in place: nothing is lost and nothing is acknowledged by it."""
    if command.generation == state.generation:
        return Decision()

    def numbered(places: tuple[Place, ...]) -> tuple[Place, ...]:
        known = [place.position for place in places if place.position in command.places]
        return tuple(Place(pos=command.places[at], position=at) for at in known)

    fresh = CursorState(
        seq=state.seq,
        generation=command.generation,
        settings=state.settings,
        acked=Place(pos=command.acked, position=state.acked.position),
        token=state.seq,
        skipped=numbered(state.skipped),
        replays=numbered(to_replay(state)),
    )
    reason = f"the feed is of generation {command.generation}"
    return _sought(state, fresh, "generation", reason)


def _sought(
    state: CursorState, fresh: CursorState, by: Literal["owner", "generation"], reason: str
) -> Decision:
    seq = state.seq + 1
    after = fresh.model_copy(update={"seq": seq, "token": seq})
    return decided(CursorSought(before=state.acked, by=by, reason=reason, state=after))


def replay(state: CursorState, command: ReplayParked) -> Decision:
    """Queue a parked event to be handed out once more, before anything else."""
    if command.place in to_replay(state):
        return Decision()
    if len(to_replay(state)) >= MAX_REPLAYS:
        raise CursorRefused("too many parked events wait to be handed out again")
    waiting = tuple(sorted((*state.replays, command.place), key=lambda place: place.pos))
    event = CursorReplayed(
        place=command.place,
        state=state.model_copy(update={"seq": state.seq + 1, "replays": waiting}),
    )
    return decided(event)
