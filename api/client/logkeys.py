"""Whose signatures count in a log: its genesis, and what signed events added or took since.

The first answer is trusted, or compared with keys that are known from elsewhere. After that the
keys change only by events which the keys known so far have signed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, ConfigDict

from api.client.errors import AnswerRefused
from api.client.shapes import parsed
from ledger.audit_entries import Parts, open_entry
from ledger.audit_keys import LogKeys, Trust, c04_key_texts, keys_of
from ledger.checkpoint import Checkpoint, verify_by_any
from ledger.errors import VerificationError
from ledger.log_events import LogOpened
from ledger.signing import verify_signature
from ledger.values import LOG_STREAM

ANYBODY: Final = Trust()
"""Nothing is known beforehand: the first answer is believed."""


class _KeyEvent(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)
    position: int
    entry: str


class _Keys(BaseModel):
    model_config = ConfigDict(frozen=True)
    origin: str
    events: list[_KeyEvent]


@dataclass(frozen=True, slots=True)
class LogBook:
    """The verified key events of one log, in order, and what follows from them."""

    origin: str
    events: tuple[tuple[int, str], ...]
    keys: LogKeys

    @property
    def genesis(self) -> LogOpened:
        return self.keys.genesis

    def checkpoint(self, note: str) -> Checkpoint:
        """Return the checkpoint that a key of this log signed, or raise `VerificationError`."""
        return verify_by_any(note, self.keys.log_keys(), self.origin)

    def require_signer(self, wallet: str, position: int) -> None:
        """Raise `VerificationError` unless a wallet may sign the event at a position."""
        if not self.keys.may_sign(wallet, position):
            raise VerificationError(f"{wallet} may not sign the event at position {position}")

    def continues(self, older: LogBook) -> bool:
        """Whether this is the older one with more events behind it, or none."""
        return self.events[: len(older.events)] == older.events

    def to_json(self) -> str:
        events = [{"position": position, "entry": entry} for position, entry in self.events]
        return json.dumps({"origin": self.origin, "events": events})


def read_log_book(body: object, trust: Trust = ANYBODY) -> LogBook:
    """Return the keys in an answer, each event verified, or raise `AnswerRefused`."""
    said = parsed(_Keys, body)
    try:
        return _verified(said, trust)
    except VerificationError as error:
        raise AnswerRefused(f"the keys of the log do not verify: {error.message}") from error


def _verified(said: _Keys, trust: Trust) -> LogBook:
    opened: list[tuple[int, Parts]] = []
    for event in said.events:
        parts = _opened(event, said.origin)
        # (1): the log is opened by its first event, and positions only grow.
        if (event.position == 1) is not (not opened and isinstance(parts.signed.event, LogOpened)):
            raise VerificationError("the log is not opened by its first event")
        if opened and event.position <= opened[-1][0]:
            raise VerificationError("the events are out of order")
        # (2): a wallet signed that may, by the events before it; the genesis names its own.
        keys = keys_of(opened or [(event.position, parts)])
        if keys is None or not keys.may_sign(parts.signed.signer, event.position):
            signer = parts.signed.signer
            raise VerificationError(f"{signer} may not sign at position {event.position}")
        # (3): the texts inside are signed by whom they have to be.
        for problem in c04_key_texts(keys, parts, verify_signature):
            raise VerificationError(problem)
        opened.append((event.position, parts))
    found = keys_of(opened)
    if found is None:
        raise VerificationError("there is no genesis")
    # (4): the genesis names the keys that are known from elsewhere.
    _require_pinned(found.genesis, trust)
    events = tuple((event.position, event.entry) for event in said.events)
    return LogBook(said.origin, events, found)


def _require_pinned(genesis: LogOpened, trust: Trust) -> None:
    """Refuse a genesis of others: whoever opens a log can add somebody's key to it later."""
    for name, known, said in (
        ("log key", trust.log_vkey, genesis.log_key),
        ("wallet", trust.wallet and trust.wallet.lower(), genesis.wallet),
    ):
        if known is not None and known != said:
            raise VerificationError(f"the genesis names the {name} {said!r}, not {known!r}")


def _opened(event: _KeyEvent, origin: str) -> Parts:
    opened = open_entry(event.entry.encode())
    if opened.parts is None:
        raise VerificationError(f"the event at position {event.position} is not well-formed")
    parts = opened.parts
    if (parts.log, parts.signed.stream) != (origin, LOG_STREAM):
        raise VerificationError(f"the event at position {event.position} is not this log's own")
    claim = parts.claim()
    verify_signature(claim.message, claim.signature, claim.signer)
    return parts
