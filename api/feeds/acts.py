"""What a reader does with its lease, over HTTP or a WebSocket: acknowledge, refuse, prolong."""

from __future__ import annotations

import json
from hashlib import sha256

from api.feeds.desk import Desk, Done, Feed, Key
from api.feeds.events import Json
from api.feeds.handing import HandedOut
from api.feeds.models import AckRequest, LeaseRequest, NackRequest
from api.feeds.settings import millis
from ledger import cursor_commands as c
from ledger.cursor_events import CursorState, Place
from ledger.cursor_lease import reached
from ledger.errors import InvalidInput
from ledger.values import UnixMs, iso_of


def handed_json(found: HandedOut) -> Json:
    """Return a hand-out as it is answered."""
    state = found.done.state
    body: Json = {
        "generation": state.generation,
        "lease_token": found.token,
        "lease_expires_at": iso_or_none(found.until),
        "acked": found.acked,
        "head": found.head,
        "lag": found.head - found.acked,
        "events": found.events,
        "more": found.more,
    }
    if not found.events and state.retry_at is not None:
        body["next_attempt_at"] = iso_or_none(state.retry_at)
    return body


async def acknowledge(desk: Desk, key: Key, said: AckRequest) -> Done:
    """Do what an acknowledgement asks for."""
    results = None if said.results is None else _digest(said.results)

    def make(state: CursorState, feed: Feed, now: UnixMs) -> c.Acknowledge:
        place = _place_of(desk, key, state, said.through)
        return c.Acknowledge(
            generation=state.generation if said.generation is None else said.generation,
            token=said.lease_token,
            through=said.through,
            position=place.position if place is not None else None,
            results=results,
            feed=feed.slice,
            now=now,
        )

    return await desk.act(key, make)


def _place_of(desk: Desk, key: Key, state: CursorState, through: int) -> Place | None:
    """Return the place of a position; that of the lease's end is known without the feed."""
    if state.lease is not None and state.lease.to.pos == through:
        return state.lease.to
    return desk.feeds.place(key[0], through) if through < 2**53 else None


def acked_json(done: Done) -> Json:
    """Return what an acknowledgement did."""
    return {"acked": reached(done.state, done.feed.slice), "changed": done.receipt is not None}


async def refuse(desk: Desk, key: Key, said: NackRequest) -> Done:
    """Do what a refusal asks for."""
    rest = millis(said.retry_after) if said.retry_after is not None else None
    parked = said.action == "park" and desk.is_parked(key, said.at)
    at = said.at if said.at < 2**53 else 0

    def make(_state: CursorState, feed: Feed, now: UnixMs) -> c.Refuse:
        return c.Refuse(
            said.lease_token,
            said.at,
            park=said.action == "park",
            retry_ms=rest,
            reason=said.reason,
            parked=parked,
            feed=feed.slice,
            now=now,
        )

    return await desk.act(key, make, at=at)


def nacked_json(done: Done, said: NackRequest) -> Json:
    """Return what a refusal did."""
    if said.action == "park":
        return {"parked": said.at}
    return {"next_attempt_at": iso_or_none(done.state.retry_at)}


async def change_lease(desk: Desk, key: Key, said: LeaseRequest) -> Done:
    """Do what is asked of a lease."""
    if said.release is (said.extend is not None):
        raise InvalidInput("extend or release: say one of them", details={"field": "extend"})
    lasts = millis(said.extend) if said.extend is not None else 0

    def make(_state: CursorState, _feed: Feed, now: UnixMs) -> c.CursorCommand:
        if said.release:
            return c.ReleaseLease(said.lease_token, now)
        return c.ProlongLease(said.lease_token, lasts, now)

    return await desk.act(key, make)


def lease_json(done: Done, said: LeaseRequest) -> Json:
    """Return how a lease stands."""
    lease = done.state.lease
    until = None if said.release or lease is None else lease.until
    return {"lease_token": said.lease_token, "lease_expires_at": iso_or_none(until)}


def iso_or_none(at: int | None) -> str | None:
    """Return the ISO form of Unix milliseconds."""
    return None if at is None else iso_of(UnixMs(at))


def _digest(results: object) -> str:
    """Return what the ledger keeps of a reader's results: the digest of their canonical JSON."""
    # Not the fast encoder: JSON's integers have no largest one, and Decimal stands for fractions.
    text = json.dumps(results, sort_keys=True, separators=(",", ":"), default=str)
    return sha256(text.encode()).hexdigest()
