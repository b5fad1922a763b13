"""Moving a cursor: by its owner, to a new numbering, or back to what was parked. Pure."""

from __future__ import annotations

from typing import Literal

from ledger.cursor_commands import Renumber, ReplayParked, Seek
from ledger.cursor_errors import CursorRefused
from ledger.cursor_events import MAX_REPLAYS, CursorReplayed, CursorSought, CursorState, Place
from ledger.decision import Decision, decided


def seek(state: CursorState, command: Seek) -> Decision:
    """Move the cursor; every older token is void. Where it was just moved to is no news."""
    moved = CursorState(
        seq=state.seq,
        generation=state.generation,
        settings=state.settings,
        acked=command.to,
        token=state.seq,
    )
    if moved == state:
        return Decision()
    return _sought(state, command.to, "owner", command.reason, state.generation, ())


def renumber(state: CursorState, command: Renumber) -> Decision:
    """Carry it over in place: nothing is lost and nothing is acknowledged by it."""
    if command.generation == state.generation:
        return Decision()
    acked = Place(pos=command.acked, position=state.acked.position)
    skipped = tuple(
        Place(pos=command.places[place.position], position=place.position)
        for place in state.skipped
        if place.position in command.places
    )
    reason = f"the feed is of generation {command.generation}"
    return _sought(state, acked, "generation", reason, command.generation, skipped)


def _sought(
    state: CursorState,
    to: Place,
    by: Literal["owner", "generation"],
    reason: str,
    generation: int,
    skipped: tuple[Place, ...],
) -> Decision:
    fresh = CursorState(
        seq=state.seq + 1,
        generation=generation,
        settings=state.settings,
        acked=to,
        token=state.seq + 1,
        skipped=skipped,
    )
    event = CursorSought(before=state.acked, by=by, reason=reason, state=fresh)
    return decided(event)


def replay(state: CursorState, command: ReplayParked) -> Decision:
    """Queue a parked event to be handed out once more, before anything else."""
    if command.place in state.replays:
        return Decision()
    if len(state.replays) >= MAX_REPLAYS:
        raise CursorRefused("too many parked events wait to be handed out again")
    waiting = tuple(sorted((*state.replays, command.place), key=lambda place: place.pos))
    event = CursorReplayed(
        place=command.place,
        state=state.model_copy(update={"seq": state.seq + 1, "replays": waiting}),
    )
    return decided(event)
