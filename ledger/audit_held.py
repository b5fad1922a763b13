"""What others hold of a log: answers, signed events and heads that left the provider's hands.

The provider's own files prove nothing against the provider, who has all keys and can write them all
anew. One signed event in a client's hand names the tree before it, so a history that was rewritten
since does not fit it: that is what these checks find.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson

from ledger.audit_entries import Parts, Verify, open_entry
from ledger.checkpoint import Checkpoint, verify_by_any
from ledger.errors import VerificationError
from ledger.event import TreeHead
from ledger.merkle import leaf_hash
from ledger.signing import ORDER_HEAD_PREFIX
from ledger.values import stream_key

_PLACE: Final = (
    "SELECT rowid, state FROM stored_events WHERE originator_id=? AND originator_version=?"
)
_ENTRY: Final = "SELECT state FROM stored_events WHERE rowid=?"
_LATER: Final = (
    "SELECT rowid FROM stored_events WHERE originator_id=? AND originator_version>? AND rowid<=?"
    " ORDER BY rowid LIMIT 1"
)

RootAt = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Held:
    """One thing that somebody kept. An answer of the service has all parts, a lone event only one.

    `position` with `entry` is an acknowledgement: the service said where the event stands.
    `order_head` is a signed text with its signature.
    """

    source: str
    position: int | None = None
    entry: bytes | None = None
    checkpoint: str | None = None
    order_head: tuple[str, str] | None = None
    root: TreeHead | None = None

    def signed_head(self, origin: str, log_keys: Iterable[str]) -> Checkpoint:
        """Return the checkpoint if a key of the log signed it, or raise `VerificationError`."""
        return verify_by_any(self.checkpoint or "", log_keys, origin)


class HeldUnreadable(Exception):
    """What was given as held is none of the known forms."""


def read_held(text: str, source: str) -> list[Held]:
    """Return what a file holds: answers, `ledger` blocks, events, one or many, or a checkpoint."""
    if not text.lstrip().startswith(("{", "[")):
        return [Held(source, checkpoint=text)]
    try:
        value = orjson.loads(text)
    except ValueError:
        lines = [line for line in text.splitlines() if line.strip()]
        return [held for line in lines for held in _objects(_json(line, source), source)]
    return _objects(value, source)


def _json(line: str, source: str) -> Any:  # noqa: ANN401 - JSON of any shape
    try:
        return orjson.loads(line)
    except ValueError as error:
        raise HeldUnreadable(f"{source}: neither JSON nor a checkpoint") from error


def _objects(value: Any, source: str) -> list[Held]:  # noqa: ANN401 - JSON of any shape
    if isinstance(value, list):
        return [held for item in value for held in _objects(item, source)]
    if not isinstance(value, dict):
        raise HeldUnreadable(f"{source}: holds {type(value).__name__} where an object is due")
    if isinstance(value.get("ledger"), dict):
        value = value["ledger"]
    if {"event", "sig"} <= value.keys():
        return [Held(source, entry=orjson.dumps(value, option=orjson.OPT_SORT_KEYS))]
    if {"size", "root"} <= value.keys():
        return [Held(source, root=TreeHead(size=value["size"], root=value["root"]))]
    if "entry" not in value:
        raise HeldUnreadable(f"{source}: an answer, an event or a checkpoint is due")
    head = value.get("order_head")
    signed = None
    if isinstance(head, dict) and {"text", "signature"} <= head.keys():
        signed = (str(head["text"]), str(head["signature"]))
    return [
        Held(
            source,
            position=value.get("position"),
            entry=str(value["entry"]).encode(),
            checkpoint=value.get("checkpoint"),
            order_head=signed,
        )
    ]


@dataclass(frozen=True, slots=True)
class Judge:
    """Compares what is held with a log that was replayed. `root_at` is of the replayed tree."""

    db: sqlite3.Connection
    wallets: frozenset[str]
    size: int
    root_at: RootAt
    verify: Verify

    def c19_not_larger(self, held: Held, size: int) -> Iterator[str]:
        """C19: no head that was handed out is larger than the log."""
        if size > self.size:
            yield f"{held.source}: a head of size {size} was signed, the log ends at {self.size}"

    def c20_root(self, held: Held, size: int, root: bytes) -> Iterator[str]:
        """C20: a head that was handed out is a root of this log."""
        if size <= self.size and self.root_at(size) != root:
            yield f"{held.source}: FORK at or before position {size}: the root held is another"

    def c23_acknowledged(self, held: Held) -> Iterator[str]:
        """C23: an event that was acknowledged stands where the answer said."""
        if held.position is None or held.entry is None:
            return
        row = self.db.execute(_ENTRY, (held.position,)).fetchone()
        if row is None or leaf_hash(row[0]) != leaf_hash(held.entry):
            yield f"{held.source}: the event acknowledged at position {held.position} is not there"

    def c24_in_the_log(self, held: Held, parts: Parts) -> Iterator[str]:
        """C24: a signed event that somebody holds is in the log, in its place of its stream."""
        envelope = parts.envelope
        key = (stream_key(envelope.stream), envelope.seq)
        row = self.db.execute(_PLACE, key).fetchone()
        if row is None:
            yield f"{held.source}: the log has no event {envelope.seq} of {envelope.stream}"
        elif bytes(row[1]) != held.entry:
            ours = open_entry(bytes(row[1])).parts
            signature = ours.sig.value if ours is not None else "unreadable"
            yield (
                f"{held.source}: FORK at position {row[0]}: two events {envelope.seq} of"
                f" {envelope.stream}, held with {parts.sig.value}, logged with {signature}"
            )

    def c25_base(self, held: Held, parts: Parts) -> Iterator[str]:
        """C25: the tree that a held event names is a tree of this log."""
        base = parts.envelope.base
        if base.size > self.size:
            yield f"{held.source}: the event names a log of {base.size}, this one has {self.size}"
        elif base.size and self.root_at(base.size).hex() != base.root:
            yield (
                f"{held.source}: FORK at or before position {base.size}: the event that is held"
                " names another tree"
            )

    def c26_order_head(self, held: Held) -> Iterator[str]:
        """C26: where we signed that a stream ends, it has no further event below that size."""
        if held.order_head is None:
            return
        text, signature = held.order_head
        message = text.encode()
        if not message.startswith(ORDER_HEAD_PREFIX):
            yield f"{held.source}: the order head has another form"
            return
        try:
            said = orjson.loads(message.removeprefix(ORDER_HEAD_PREFIX))
            end = (stream_key(said["stream"]), int(said["seq"]), int(said["size"]))
        except (ValueError, KeyError, TypeError):
            yield f"{held.source}: the order head has another form"
            return
        if not any(self._signed(message, signature, wallet) for wallet in self.wallets):
            yield f"{held.source}: the order head is signed by no wallet of the log"
        later = self.db.execute(_LATER, end).fetchone()
        if later is not None:
            yield (
                f"{held.source}: we signed that {said['stream']} ends at {said['seq']} as of"
                f" {said['size']}, and position {later[0]} holds a further event"
            )

    def signed_by_us(self, held: Held, parts: Parts) -> Iterator[str]:
        """C24: what is held as ours is signed by a wallet of the log; else it proves nothing."""
        if parts.sig.by not in self.wallets:
            yield f"{held.source}: the event that is held is signed by a stranger"

    def _signed(self, message: bytes, signature: str, wallet: str) -> bool:
        try:
            self.verify(message, signature, wallet)
        except VerificationError:
            return False
        return True
