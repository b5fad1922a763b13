"""Opening a cursor: what its request means, and where in the feed it starts."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from api.feeds.events import EVENT_ID
from api.feeds.models import OpenRequest
from ledger.cursor_events import CursorSettings, Place
from ledger.entry import read_entry
from ledger.errors import InvalidInput
from ledger.service import Ledger
from ledger.values import UnixMs, parse_iso
from projections.feed_reader import NOWHERE, FeedReader
from projections.feeds import TYPES

EARLIEST: Final = "earliest"
LATEST: Final = "latest"
KNOWN_TYPES: Final = TYPES | {
    "message.posted",
    "order.proposed",
    "order.negotiating",
    "order.declined",
    "order.completed",
    "order.cancelled",
    "delivery.parked",
}
"""What a filter may name; the last ones are the marketplace's own."""

_NUMBER: Final = re.compile(r"[0-9]{1,15}", re.ASCII)


def settings_of(said: OpenRequest) -> CursorSettings:
    """Return the settings as they are recorded; raises `InvalidInput` on a type nobody knows."""
    unknown = sorted(set(said.types or ()) - KNOWN_TYPES)
    if unknown:
        msg = f"types: {unknown[0]!r} is no type of event"
        raise InvalidInput(msg, details={"field": "types"})
    types = tuple(sorted(set(said.types))) if said.types is not None else None
    orders = types is None or any(name.startswith("order.") for name in types)
    return CursorSettings(
        start=str(said.start),
        types=types,
        mode=said.mode,
        lease_ms=millis(said.lease_seconds),
        max_batch=said.max_batch,
        max_attempts=said.max_attempts,
        backoff_ms=millis(said.backoff.initial_seconds),
        backoff_max_ms=millis(said.backoff.max_seconds),
        on_poison=said.on_poison or ("block" if orders else "park"),
    )


def millis(seconds: Decimal) -> int:
    """Return whole milliseconds."""
    return int(seconds * 1000)


def place_of(ledger: Ledger, feeds: FeedReader, party: str, to: int | str, field: str) -> Place:
    """Return the place that counts as done when a cursor is to go on at `to`.

    A position or an event id is done itself; of a time, everything before it.
    """
    if to == EARLIEST:
        return NOWHERE
    if to == LATEST:
        return feeds.place(party, feeds.head(party)) or NOWHERE
    found = _by_number(feeds, party, to)
    if found is None and isinstance(to, str):
        found = _by_event(feeds, party, to) or _by_time(ledger, feeds, party, to, field)
    if found is None:
        msg = f"{field}: the feed has no such position"
        raise InvalidInput(msg, details={"field": field, "head": feeds.head(party)})
    return found


def _by_number(feeds: FeedReader, party: str, to: int | str) -> Place | None:
    if isinstance(to, str):
        if not _NUMBER.fullmatch(to):
            return None
        to = int(to)
    return feeds.place(party, to)


def _by_event(feeds: FeedReader, party: str, to: str) -> Place | None:
    match = EVENT_ID.fullmatch(to)
    if match is None:
        return None
    found = feeds.count_until(party, int(match["position"]))
    return found if found.position == int(match["position"]) else None


def _by_time(ledger: Ledger, feeds: FeedReader, party: str, to: str, field: str) -> Place | None:
    if EVENT_ID.fullmatch(to) or _NUMBER.fullmatch(to):
        return None
    try:
        time = parse_iso(to)
    except InvalidInput as error:
        msg = f"{field}: earliest, latest, a position, an event id or an ISO 8601 time"
        raise InvalidInput(msg, details={"field": field}) from error
    return feeds.last_until(party, lambda position: _at(ledger, position) >= time)


def _at(ledger: Ledger, position: int) -> UnixMs:
    entry = ledger.store.entry_at(position)
    return read_entry(entry).at if entry is not None else UnixMs(0)
