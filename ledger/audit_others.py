"""The log compared with everything that others hold of it, and the heads that witnesses saw."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ledger.audit_earlier import compare_earlier, is_of_the_earlier
from ledger.audit_entries import Opened
from ledger.audit_held import Held, Judge
from ledger.audit_report import Book
from ledger.audit_rpc import Nodes
from ledger.audit_tree import c21_two_roots
from ledger.audit_witness import (
    Seen,
    Windows,
    Witnesses,
    c22_gaps,
    c22_quorum,
    quorum_heads,
    seen_in,
)
from ledger.checkpoint import Checkpoint
from ledger.entry import read_entry
from ledger.errors import VerificationError
from ledger.log_events import Continues
from ledger.order_events import DeliveryConfirmed
from ledger.values import UnixMs

_ENTRY = "SELECT state FROM stored_events WHERE rowid=?"
_RECEIPTS = "SELECT rowid, state FROM stored_events WHERE topic=? ORDER BY rowid"

Open = Callable[[bytes], Opened]
RootAt = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an auditor has besides the provider's ledger; every part widens the checks.

    `held` is what others kept, `witnesses` whose word on heads counts, `nodes` the chain,
    `content` a database with the content if the ledger was handed over without it.
    `absent` names the tables that the auditor was not given.
    """

    held: Sequence[Held] = ()
    witnesses: Witnesses | None = None
    nodes: Nodes | None = None
    content: sqlite3.Connection | None = None
    absent: frozenset[str] = frozenset()
    earlier_keys: tuple[str, ...] = ()
    """The verifier keys of the log that this one continues, for heads of it that are held."""


NO_EVIDENCE = Evidence()


@dataclass(slots=True)
class Others:
    """All held things and what witnesses signed of them, read before the log is."""

    book: Book
    evidence: Evidence
    checkpoints: dict[int, Checkpoint] = field(default_factory=dict)
    roots: dict[int, bytes] = field(default_factory=dict)
    """Each size of which a held head was signed, with its first root."""
    seen: list[Seen] = field(default_factory=list)
    windows: Windows = field(default_factory=Windows)

    def read(
        self, origin: str, log_keys: Sequence[str], continues: Continues | None = None
    ) -> None:
        """Verify the heads that are held; one that the log did not sign proves nothing."""
        for number, held in enumerate(self.evidence.held):
            if held.checkpoint is None:
                continue
            try:
                checkpoint = held.signed_head(origin, log_keys)
                self.book.note("C18", ())
                self.checkpoints[number] = checkpoint
                self.roots.setdefault(checkpoint.size, checkpoint.root)
                if self.evidence.witnesses is not None:
                    self.seen += seen_in(held.checkpoint, checkpoint, self.evidence.witnesses)
            except VerificationError as error:
                if continues is not None and is_of_the_earlier(held.checkpoint, continues):
                    keys = self.evidence.earlier_keys
                    compare_earlier(self.book, held.source, held.checkpoint, continues, keys)
                    continue
                self.book.note("C18", [f"{held.source}: {error.message}"])
        self.windows = Windows.of(self.seen)

    def compare(self, judge: Judge, open_entry: Open) -> None:
        """Compare each held thing with the replayed log."""
        roots: dict[int, bytes] = {}
        for number, held in enumerate(self.evidence.held):
            self._heads(judge, held, self.checkpoints.get(number), roots)
            self.book.note("C26", judge.c26_order_head(held))
            if held.entry is not None:
                self._event(judge, held, open_entry)
        if self.evidence.witnesses is not None:
            self._witnesses(judge, self.evidence.witnesses)

    def _heads(
        self, judge: Judge, held: Held, checkpoint: Checkpoint | None, roots: dict[int, bytes]
    ) -> None:
        heads = [] if checkpoint is None else [(checkpoint.size, checkpoint.root)]
        if held.root is not None:
            heads.append((held.root.size, bytes.fromhex(held.root.root)))
        for size, root in heads:
            self.book.note("C19", judge.c19_not_larger(held, size))
            self.book.note("C20", judge.c20_root(held, size, root))
            known = roots.setdefault(size, root)
            self.book.note("C21", c21_two_roots(held.source, known, root, size))

    def _event(self, judge: Judge, held: Held, open_entry: Open) -> None:
        note = self.book.note
        parts = open_entry(held.entry).parts if held.entry is not None else None
        if parts is None:
            note("C24", [f"{held.source}: the event that is held cannot be read"])
            return
        foreign = list(judge.signed_by_us(held, parts))
        note("C24", foreign)
        if not foreign:
            note("C23", judge.c23_acknowledged(held))
            note("C24", judge.c24_in_the_log(held, parts))
            note("C25", judge.c25_base(held, parts))

    def _witnesses(self, judge: Judge, witnesses: Witnesses) -> None:
        def is_ours(size: int, root: bytes) -> bool:
            return size <= judge.size and judge.root_at(size) == root

        def at_of(position: int) -> UnixMs:
            return read_entry(judge.db.execute(_ENTRY, (position,)).fetchone()[0]).at

        heads = quorum_heads(self.seen, witnesses.quorum, is_ours)
        self.book.note("C22", c22_quorum(heads, witnesses.quorum))
        self.book.note("C22", c22_gaps(heads, judge.size, witnesses.max_gap_s, at_of))


def c16_heads(
    db: sqlite3.Connection, book: Book, unreadable: set[object], size: int, root_at: RootAt
) -> None:
    """C16: a head that a client signed in a receipt is one of this log.

    Another head is no finding by itself: the log was rewritten, or the client named a head that it
    was never given. Who holds the receipt's checkpoint can tell.
    """
    for position, entry in db.execute(_RECEIPTS, (DeliveryConfirmed.kind,)):
        signed = None if position in unreadable else read_entry(entry)
        if signed is None or not isinstance(signed.event, DeliveryConfirmed):
            continue
        head = signed.event.head
        if head is None:
            continue
        book.note("C16", ())
        if head.size > size or root_at(head.size).hex() != head.root:
            why = f"the client signed a root of size {head.size} that this log does not have"
            book.unknown("C16", why, position, signed.stream)
