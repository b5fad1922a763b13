"""An event of a feed as JSON: the same bytes of the ledger on every way out."""

from __future__ import annotations

import re
from typing import Final

from ledger.entry import read_entry
from ledger.errors import NotFound, VerificationError
from ledger.service import Ledger
from ledger.values import is_order, iso_of, order_of_stream
from projections.feed_reader import FeedRow

EVENT_ID: Final = re.compile(r"(?P<position>[1-9][0-9]{0,14})-(?P<leaf>[0-9a-f]{64})", re.ASCII)

Json = dict[str, object]


def event_json(ledger: Ledger, row: FeedRow) -> Json:
    """Return an event of a feed; its `entry` lies in the ledger, byte for byte."""
    entry = ledger.store.entry_at(row.position)
    if entry is None:
        msg = f"the ledger holds no event at position {row.position}"
        raise VerificationError(msg)
    signed = read_entry(entry)
    found: Json = {
        "pos": row.pos,
        "event_id": event_id(row.position, signed.leaf),
        "type": row.type,
        "occurred_at": iso_of(signed.at),
        "data": {
            "kind": signed.event.kind,
            "position": row.position,
            "seq": signed.seq,
            "entry": entry.decode(),
        },
    }
    if is_order(signed.stream):
        found["order_id"] = order_of_stream(signed.stream)
    return found


def handed_out(event: Json, attempt: int) -> Json:
    """Return an event as part of a hand-out, the `attempt`-th of it."""
    return {**event, "attempt": attempt, "redelivered": attempt > 1}


def event_id(position: int, leaf: bytes) -> str:
    """Return the id of an event: its position and its leaf, which its bytes hash to."""
    return f"{position}-{leaf.hex()}"


def entry_of(ledger: Ledger, text: str) -> tuple[int, bytes]:
    """Return the position and the bytes of the event with an id, or raise `NotFound`."""
    match = EVENT_ID.fullmatch(text)
    entry = ledger.store.entry_at(int(match["position"])) if match else None
    if match is None or entry is None or read_entry(entry).leaf.hex() != match["leaf"]:
        raise NotFound("no event has this id", code="NOT_FOUND")
    return int(match["position"]), entry
