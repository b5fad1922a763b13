"""Who may speak for the log at which position: the genesis as amended, and the pinned roots."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from ledger.audit_entries import Parts
from ledger.audit_report import CLEAN, Problems
from ledger.audit_signatures import Verify
from ledger.checkpoint import parse_vkey
from ledger.entry import SignedEvent
from ledger.errors import VerificationError
from ledger.event import ClientText
from ledger.log_events import KeyAdded, KeyRevoked, LogClosed, LogOpened
from ledger.values import LOG_STREAM

ENDLESS: Final = 2**63


@dataclass(frozen=True, slots=True)
class Trust:
    """What the auditor knows from elsewhere; what is None is taken from the ledger's genesis."""

    log_vkey: str | None = None
    wallet: str | None = None


@dataclass(frozen=True, slots=True)
class Term:
    """A key may speak from one position to another, both included."""

    purpose: str
    key: str
    first: int
    last: int

    def reaches(self, position: int) -> bool:
        """Whether the key may speak there."""
        return self.first <= position <= self.last


@dataclass(slots=True)
class LogKeys:
    """The genesis and the terms of every key, read from the log's own stream."""

    genesis: LogOpened
    terms: list[Term] = field(default_factory=list)
    closed_at: int | None = None
    """Where the log was closed, for the first time if it was more than once."""

    def may_sign(self, wallet: str, position: int) -> bool:
        """Whether a wallet may sign the event at a position."""
        for term in self.terms:
            if term.key == wallet and term.purpose == "wallet" and term.reaches(position):
                return True
        return False

    def every(self, purpose: str) -> list[str]:
        """Return every key that ever had a purpose: what it signed in its time stays signed."""
        return [term.key for term in self.terms if term.purpose == purpose]

    def log_keys(self) -> list[str]:
        """Return the verifier keys that may sign heads; a revoked one signs no newest head."""
        return [t.key for t in self.terms if t.purpose == "log" and t.last == ENDLESS]


def keys_of(log_events: Iterable[tuple[int, Parts]]) -> LogKeys | None:
    """Fold the log's own events, each with its position; None if they begin with no genesis."""
    keys: LogKeys | None = None
    for position, parts in log_events:
        event = parts.signed.event
        if keys is None:
            if not isinstance(event, LogOpened):
                return None
            keys = LogKeys(event)
            keys.terms += [
                Term("wallet", event.wallet, position, ENDLESS),
                Term("log", event.log_key, position, ENDLESS),
            ]
        elif isinstance(event, KeyAdded):
            keys.terms.append(Term(event.purpose, event.key, position + 1, ENDLESS))
        elif isinstance(event, KeyRevoked):
            keys.terms = [_cut(term, event) for term in keys.terms]
        elif isinstance(event, LogClosed) and keys.closed_at is None:
            keys.closed_at = position
    return keys


def c04_genesis(position: int, signed: SignedEvent) -> Problems:
    """C04: the first event, and no other, opens the log and names its keys."""
    opens = type(signed.event) is LogOpened and signed.stream == LOG_STREAM
    if opens is (position == 1):
        return CLEAN
    return ["the log is opened by its first event and by no other"]


def c04_authority(keys: LogKeys, wallet: str, position: int) -> Problems:
    """C04: the signing wallet is known at that position, by the events before it."""
    return CLEAN if keys.may_sign(wallet, position) else [f"{wallet} may not sign at this position"]


def c04_key_texts(keys: LogKeys, parts: Parts, verify: Verify) -> Iterator[str]:
    """C04: a new wallet proves possession; the recovery key signs what only it may do."""
    event, genesis = parts.signed.event, keys.genesis
    if isinstance(event, KeyAdded) and event.possession is not None:
        owner = event.key if event.purpose == "wallet" else event.possession.signer
        yield from _signed_by(event.possession, owner, verify)
    if isinstance(event, KeyAdded) and event.purpose == "log":
        yield from _vkey(event.key)
    if isinstance(event, KeyRevoked | LogClosed) and event.recovery is not None:
        yield from _signed_by(event.recovery, genesis.recovery, verify)
    if isinstance(event, LogOpened):
        yield from _vkey(event.log_key)
        if event.origin != parts.log:
            yield f"the log {parts.log!r} opens itself as {event.origin!r}"


def _cut(term: Term, revoked: KeyRevoked) -> Term:
    if (term.purpose, term.key) != (revoked.purpose, revoked.key):
        return term
    return Term(term.purpose, term.key, term.first, min(term.last, revoked.last_position))


def _signed_by(text: ClientText, signer: str, verify: Verify) -> Iterator[str]:
    if text.signer != signer:
        yield f"the text is signed by {text.signer}, not by {signer}"
    try:
        verify(text.text.encode(), text.signature, text.signer)
    except VerificationError as error:
        yield error.message


def _vkey(text: str) -> Iterator[str]:
    try:
        parse_vkey(text)
    except VerificationError as error:
        yield error.message
