"""How cursors, hand-outs and parked events are shown."""

from __future__ import annotations

from api.feeds.acts import iso_or_none
from api.feeds.desk import Desk, Key, Part
from api.feeds.events import Json, event_id, event_json
from ledger.cursor_events import CursorState, Lease
from ledger.cursor_lease import reached
from ledger.cursor_tries import count_of
from ledger.entry import read_entry
from ledger.values import UnixMs, iso_of
from projections.feed_reader import HandOut, Parked


def cursor_json(desk: Desk, key: Key, state: CursorState) -> Json:
    """Return a cursor as it stands."""
    party, name = key
    feed, settings = desk.feed(key, state, Part()).slice, state.settings
    acked = reached(state, feed)
    found = {
        "party": party,
        "name": name,
        "generation": state.generation,
        "start": settings.start,
        "types": list(settings.types) if settings.types is not None else None,
        "mode": settings.mode,
        "lease_seconds": settings.lease_ms / 1000,
        "max_batch": settings.max_batch,
        "max_attempts": settings.max_attempts,
        "backoff": {
            "initial_seconds": settings.backoff_ms / 1000,
            "max_seconds": settings.backoff_max_ms / 1000,
        },
        "on_poison": settings.on_poison,
        "opened_at": iso_or_none(desk.feeds.opened_ms(party, name) or None),
        "acked": acked,
        "head": feed.head,
        "lag": feed.head - acked,
        "lease": _lease_json(state.lease) if state.lease is not None else None,
        "attempts": count_of(state.tries, acked + 1),
        "next_attempt_at": iso_or_none(state.retry_at),
        "blocked": state.blocked.pos if state.blocked is not None else None,
        "parked": desk.feeds.parked_count(party, name),
    }
    return present(found)


def present(fields: Json) -> Json:
    """Return the fields that have a value: what does not apply is left out, never null."""
    return {name: value for name, value in fields.items() if value is not None}


def _lease_json(lease: Lease) -> Json:
    return {
        "lease_token": lease.token,
        "holder": lease.holder,
        "from": lease.first,
        "to": lease.to.pos,
        "expires_at": iso_of(UnixMs(lease.until)),
    }


def hand_out_json(found: HandOut) -> Json:
    """Return one line of the hand-out log."""
    shown = {
        "token": found.token,
        "generation": found.generation,
        "holder": found.holder,
        "from": found.first,
        "to": found.last,
        "attempt": found.attempt,
        "transport": found.transport,
        "handed_at": iso_of(UnixMs(found.handed_ms)),
        "until": iso_of(UnixMs(found.until_ms)),
        "acked_through": found.acked_through,
        "acked_at": iso_or_none(found.acked_ms),
        "ended": found.ended,
        "ended_at": iso_or_none(found.ended_ms),
    }
    return present(shown)


def parked_json(desk: Desk, party: str, parked: Parked) -> Json:
    """Return an event that was put aside; `pos` is left out where the feed holds it no more."""
    place = desk.feeds.count_until(party, parked.position)
    row = desk.feeds.at(party, place.pos) if place.position == parked.position else None
    entry = desk.ledger.store.entry_at(parked.position) or b""
    found: Json = {
        "pos": row.pos if row is not None else None,
        "event_id": event_id(parked.position, read_entry(entry).leaf),
        "attempts": parked.attempts,
        "by": parked.by,
        "reason": parked.reason,
        "parked_at": iso_of(UnixMs(parked.parked_ms)),
        "event": event_json(desk.ledger, row) if row is not None else None,
    }
    return present(found)
