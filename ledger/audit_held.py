"""What others hold of a log: answers, signed events and heads that left the provider's hands.

The provider's own files prove nothing against the provider, who has all keys and can write them all
anew. One signed event in a client's hand names the tree before it, so a history that was rewritten
since does not fit it: that is what these checks find.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import orjson

from ledger.audit_entries import Parts, open_entry
from ledger.audit_signatures import Verify
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


@dataclass(frozen=True, slots=True)
class Judge:
    """Compares what is held with a log that was replayed. `root_at` is of the replayed tree."""

    db: sqlite3.Connection
    wallets: frozenset[str]
    size: int
    root_at: RootAt
    verify: Verify
    origin: str

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
        signed = parts.signed
        key = (stream_key(signed.stream), signed.seq)
        row = self.db.execute(_PLACE, key).fetchone()
        if row is None:
            yield f"{held.source}: the log has no event {signed.seq} of {signed.stream}"
        elif bytes(row[1]) != held.entry:
            ours = open_entry(bytes(row[1])).parts
            signature = ours.signature if ours is not None else "unreadable"
            yield (
                f"{held.source}: FORK at position {row[0]}: two events {signed.seq} of"
                f" {signed.stream}, held with {parts.signature}, logged with {signature}"
            )

    def c25_base(self, held: Held, parts: Parts) -> Iterator[str]:
        """C25: the tree that a held event names is a tree of this log."""
        size = parts.base_size
        if size > self.size:
            yield f"{held.source}: the event names a log of {size}, this one has {self.size}"
        elif size and self.root_at(size).hex() != parts.base_root:
            yield (
                f"{held.source}: FORK at or before position {size}: the event that is held"
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
            origin, leaf = said["log"], said["leaf"]
        except (ValueError, KeyError, TypeError):
            yield f"{held.source}: the order head has another form"
            return
        if not any(self._signed(message, signature, wallet) for wallet in self.wallets):
            yield f"{held.source}: the order head is signed by no wallet of the log"
        elif origin != self.origin:
            yield f"{held.source}: the order head is of the log {origin!r}"
        else:
            yield from self._order_end(f"{held.source}: we signed that {said['stream']}", end, leaf)

    def _order_end(self, says: str, end: tuple[str, int, int], leaf: object) -> Iterator[str]:
        """Compare where a stream was signed to end with where it does."""
        key, seq, size = end
        says += f" ends at {seq} as of {size}"
        if size > self.size:
            yield f"{says}, and the log ends at {self.size}"
            return
        row = self.db.execute(_PLACE, (key, seq)).fetchone()
        if row is None or row[0] > size:
            yield f"{says}, and it has no such event below that size"
        elif leaf_hash(row[1]).hex() != leaf:
            yield f"{says} with the leaf {leaf}, and position {row[0]} holds another event"
        later = self.db.execute(_LATER, end).fetchone()
        if later is not None:
            yield f"{says}, and position {later[0]} holds a further event"

    def signed_by_us(self, held: Held, parts: Parts) -> Iterator[str]:
        """C24: what is held as ours is signed by a wallet of the log; else it proves nothing."""
        if parts.signed.signer not in self.wallets:
            yield f"{held.source}: the event that is held is signed by a stranger"

    def _signed(self, message: bytes, signature: str, wallet: str) -> bool:
        try:
            self.verify(message, signature, wallet)
        except VerificationError:
            return False
        return True
