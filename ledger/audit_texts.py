"""Checks of what a signed text is good for: once, at its time, for its key, under a known key."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Final

from ledger.audit_entries import open_entry
from ledger.audit_keys import LogKeys, Trust
from ledger.checkpoint import verify_checkpoint
from ledger.decision import MAX_STAMP_AGE_MS, MAX_STAMP_SKEW_MS
from ledger.entry import SignedEvent
from ledger.errors import LedgerError, VerificationError
from ledger.event import Event
from ledger.log_events import KeyAdded, KeyRevoked, LogClosed
from ledger.log_texts import parse_closing, parse_possession, parse_revocation
from ledger.order import Order
from ledger.order_events import (
    DeliveryConfirmed,
    DeliveryDisputed,
    DisputeRuled,
    DisputeWithdrawn,
    ReceiptRecorded,
)
from ledger.texts import (
    parse_dispute,
    parse_event_receipt,
    parse_receipt,
    parse_ruling,
    parse_withdrawal,
)
from ledger.values import UnixMs

QUEUED_MS: Final = 60_000
"""What may pass between the moment when a text is taken and the time of its event."""
MAX_BETWEEN: Final = 10_000
"""Events that may come between the operator's word on a key and the place where it is recorded."""
_BY_WALLET: Final = (
    "SELECT state FROM stored_events WHERE rowid BETWEEN ? AND ? AND instr(state, ?) ORDER BY rowid"
)

Signs = Callable[[str], bool]


def c16_said_once(order: Order, signed: SignedEvent) -> Iterator[str]:
    """C16: receipts, disputes, withdrawals and rulings are new in the order, and of their time.

    So that nobody closes a dispute with what was said of an earlier one. Notices are left out: one
    that is kept may be accepted long after.
    """
    event = signed.event
    match event:
        case DeliveryConfirmed() | DeliveryDisputed() | DisputeWithdrawn():
            text = event.client.text
        case DisputeRuled():
            text = event.arbiter.text
        case ReceiptRecorded():
            text = event.receiver.text
        case _:
            return
    if text in _said(order):
        yield "the text stands in an earlier event of the order"
    with suppress(LedgerError):  # a text of no known form is found as such
        age = signed.at - _stamp(event)
        if not -MAX_STAMP_SKEW_MS <= age <= MAX_STAMP_AGE_MS + QUEUED_MS:
            yield "the text was signed at another time than its event"


def _said(order: Order) -> frozenset[str]:
    others = (order.disputed_by, order.confirmation)
    return order.endings | {event.client.text for event in others if event is not None}


def _stamp(event: Event) -> UnixMs:
    match event:
        case DeliveryConfirmed():
            return parse_receipt(event.client.text).stamp
        case DeliveryDisputed():
            return parse_dispute(event.client.text).stamp
        case DisputeWithdrawn():
            return parse_withdrawal(event.client.text).stamp
        case DisputeRuled():
            return parse_ruling(event.arbiter.text).stamp
        case ReceiptRecorded():
            return parse_event_receipt(event.receiver.text).stamp
        case _:
            raise TypeError(event.kind)


def c08_ruling(event: DisputeRuled, received: int) -> Iterator[str]:
    """C08: a ruling gives back nothing, all, or a part of what came, as its outcome says."""
    amount = event.amount
    fits = {"provider": amount == 0, "client": amount == received, "split": 0 < amount < received}
    if not fits[event.outcome]:
        yield f"a ruling for {event.outcome} cannot return {amount} of {received}"


def c04_key_words(keys: LogKeys, event: Event, position: int) -> Iterator[str]:
    """C04: what a key said of itself or of another is of this log, and says what is recorded."""
    try:
        yield from _key_words(keys, event, position)
    except LedgerError as error:
        yield error.message


def _key_words(keys: LogKeys, event: Event, position: int) -> Iterator[str]:
    origin = keys.genesis.origin
    match event:
        case KeyAdded(possession=None):
            if event.purpose == "wallet":
                yield "a wallet was added that did not ask for it"
        case KeyAdded():
            said = parse_possession(event.possession.text if event.possession else "")
            if (said.key, said.origin) != (event.key, origin):
                yield "the text of the key that is added names another key or log"
        case KeyRevoked():
            yield from _reach(keys, event, position)
            if event.recovery is None:
                return
            said = parse_revocation(event.recovery.text)
            if (said.key, said.origin, said.last_position) != (
                event.key,
                origin,
                event.last_position,
            ):
                yield "the recovery key's text names another key, log or position"
        case LogClosed():
            said = parse_closing(event.recovery.text)
            if (said.origin, said.reason) != (origin, event.reason):
                yield "the recovery key's text names another log or reason"
        case _:
            return


def _reach(keys: LogKeys, event: KeyRevoked, position: int) -> Iterator[str]:
    """Yield if a key is revoked further back than to the newest one of its kind, or unasked."""
    same = [t for t in keys.terms if t.purpose == event.purpose and t.first <= position]
    newest = max((term.first - 1 for term in same), default=0)
    if not max(newest, 1) <= event.last_position <= position:
        yield f"a key was revoked from {event.last_position} on, which is no time of its own"
    if event.recovery is None and position - event.last_position > MAX_BETWEEN:
        yield "a key was revoked for the past without the recovery key"


def c04_pinned(
    keys: LogKeys, trust: Trust, notes: Iterable[str], has_signed: Signs
) -> Iterator[str]:
    """C04: the keys that the auditor knows from elsewhere are those of this log.

    The genesis names them; or the log has added them later, and one of them signed what the genesis
    lies in: a head, or an event with a base. Without that it may be another's log, as anybody can
    open one and add to it a key that is not theirs.
    """
    genesis, wallet, vkey = keys.genesis, trust.wallet, trust.log_vkey
    anchored = wallet is not None and (
        wallet == genesis.wallet or (wallet in keys.every("wallet") and has_signed(wallet))
    )
    if vkey in keys.every("log"):
        anchored = anchored or any(_signed_head(note, vkey, genesis.origin) for note in notes)
    for name, purpose, known, said in (
        ("log key", "log", vkey, genesis.log_key),
        ("wallet", "wallet", wallet, genesis.wallet),
    ):
        later = anchored and known in keys.every(purpose)
        if known is not None and known != said and not later:
            yield f"the genesis names the {name} {said!r}, and nothing vouches for {known!r}"


def _signed_head(note: str, vkey: str | None, origin: str) -> bool:
    with suppress(VerificationError):
        return vkey is not None and verify_checkpoint(note, vkey, origin).size > 0
    return False


def signed_in(db: sqlite3.Connection, keys: LogKeys) -> Signs:
    """Return whether a wallet signed an event that names the log before it, in its own time.

    Signature and base of that event are checked where all are.
    """

    def has_signed(wallet: str) -> bool:
        sought = f'"by":"{wallet}"'.encode()
        for term in keys.terms:
            if (term.purpose, term.key) != ("wallet", wallet):
                continue
            last = min(term.last, 2**62)
            for (entry,) in db.execute(_BY_WALLET, (term.first, last, sought)):
                if commits_to_the_log(entry, wallet):
                    return True
        return False

    return has_signed


def commits_to_the_log(entry: object, wallet: str) -> bool:
    """Whether an entry is an event that a wallet signed and that has a base."""
    parts = open_entry(entry).parts if isinstance(entry, bytes) else None
    return parts is not None and parts.signed.signer == wallet and parts.base_size > 0
