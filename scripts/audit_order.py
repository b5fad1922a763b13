"""The audit of one order at a live service, for a party that may see no more than that order.

Every event is found again in the signed tree, by the proof that the service gives and by the public
tiles; the order is folded from its first event to its signed end.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

import orjson

from ledger.audit_chain import ChainPass
from ledger.audit_copy import LedgerCopy
from ledger.audit_entries import Parts, c03_origin, c04_signature, c10_time, open_entry
from ledger.audit_held import Held, Judge
from ledger.audit_keys import (
    LogKeys,
    Trust,
    c04_authority,
    c04_genesis,
    c04_key_texts,
    keys_of,
)
from ledger.audit_money import c12_no_other_claims
from ledger.audit_others import Evidence, Others
from ledger.audit_report import Book, Problems, Report
from ledger.audit_rpc import Nodes
from ledger.audit_source import AuditImpossible, snapshot
from ledger.audit_span import EVERY_STREAM
from ledger.audit_streams import StreamPass
from ledger.audit_texts import c04_key_words, c04_pinned, commits_to_the_log
from ledger.audit_tree import c18_guard_signed
from ledger.checkpoint import Checkpoint
from ledger.errors import VerificationError
from ledger.merkle import (
    consistency_proof,
    inclusion_proof,
    root_at,
    verify_consistency,
    verify_inclusion,
)
from ledger.proof_text import parse_inclusion
from ledger.signing import ORDER_HEAD_PREFIX, verify_signature
from ledger.tiles import TILE_HEIGHT, TILE_WIDTH, TileNodes
from ledger.values import LOG_STREAM, iso_of, order_stream
from scripts.audit_fetch import MAX_TEXT, LiveLog

STOP_AFTER: Final = 1000
MAX_TILES: Final = 1024


@dataclass(frozen=True, slots=True)
class Placed:
    """An entry, and where the service says that it stands."""

    position: int
    entry: bytes


class Tree:
    """The tree under one checkpoint, from public tiles; every answer is proven against the root."""

    def __init__(self, log: LiveLog, head: Checkpoint) -> None:
        self._log = log
        self._head = head
        self._nodes = TileNodes(lru_cache(MAX_TILES)(self._tile), _no_leaf)

    def root_at(self, size: int) -> bytes:
        """Return the root of an earlier size that the checkpoint continues."""
        root = root_at(size, self._nodes)
        proof = consistency_proof(size, self._head.size, self._nodes)
        verify_consistency(size, root, self._head.size, self._head.root, proof)
        return root

    def require(self, leaf: bytes, position: int) -> None:
        """Raise `VerificationError` unless a leaf stands at a position."""
        head = self._head
        if not 0 < position <= head.size:
            raise VerificationError(f"position {position} is not in a log of {head.size}")
        proof = inclusion_proof(position - 1, head.size, self._nodes)
        verify_inclusion(leaf, position - 1, head.size, proof, head.root)

    def _tile(self, level: int, index: int) -> bytes:
        nodes = self._head.size >> TILE_HEIGHT * level
        return self._log.tile(level, index, min(TILE_WIDTH, nodes - index * TILE_WIDTH))


def replay_order(log: LiveLog, order_id: str, *, trust: Trust, evidence: Evidence) -> Report:
    """Audit one order. Raises `AuditImpossible` if the service does not show it."""
    book = Book(STOP_AFTER)
    shown = log.json(f"/ledger/orders/{order_id}/events")
    events = _placed(shown.get("events"))
    key_events = _placed(log.json("/ledger/keys").get("events"))
    keys = keys_of([(p.position, parts) for p in key_events if (parts := _parts(book, p))])
    if keys is None:
        raise AuditImpossible("the service shows no genesis")
    note = str(shown.get("checkpoint"))
    placed = [*events, *key_events]
    book.note("C04", c04_pinned(keys, trust, [note], partial(_has_signed, placed)))
    try:
        head = c18_guard_signed(note.encode(), keys.log_keys(), keys.genesis.origin)
    except VerificationError as error:
        book.note("C18", [error.message])
        return book.report
    book.note("C18", ())
    audit = _OrderAudit(log, order_id, book, keys, head)
    audit.keys(key_events)
    audit.events(events)
    audit.fold(events, evidence.nodes)
    audit.held(evidence, Held("the service", order_head=_order_head(shown)), events)
    book.report.size = len(events)
    book.report.notes.append(f"one order only: {len(events)} events, of a log of {head.size}")
    book.report.notes.append("which key events there are is the service's word")
    return book.report


class _OrderAudit:
    def __init__(
        self, log: LiveLog, order_id: str, book: Book, keys: LogKeys, head: Checkpoint
    ) -> None:
        self._log = log
        self._order_id = order_id
        self._stream = order_stream(order_id)
        self._book = book
        self._keys = keys
        self._tree = Tree(log, head)
        self._head = head

    def keys(self, placed: Sequence[Placed]) -> None:
        """Check the events that say which keys hold: each by itself, and its place in the tree."""
        keys, last = self._keys, 0
        for item in placed:
            opened = open_entry(item.entry)
            self._book.note("C20", self._in_tree(opened.leaf, item.position), item.position)
            if opened.parts is None:
                continue  # said when the keys were read
            parts, note = opened.parts, partial(self._book.note, position=item.position)
            signed = parts.signed
            if signed.stream != LOG_STREAM or item.position <= last:
                note("C30", ["a key event of another stream, or out of order"])
            last = item.position
            note("C03", c03_origin(parts, keys.genesis.origin))
            note("C04", c04_genesis(item.position, signed))
            note("C04", c04_signature(parts, verify_signature))
            note("C04", c04_authority(keys, signed.signer, item.position))
            note("C04", c04_key_texts(keys, parts, verify_signature))
            note("C04", c04_key_words(keys, signed.event, item.position))

    def events(self, placed: Sequence[Placed]) -> None:
        """Check every event's place: in the order, in the tree, after the tree that it names."""
        last_at = ""
        for item in placed:
            opened = open_entry(item.entry)
            if opened.parts is None:
                continue  # the fold says why
            signed = opened.parts.signed
            if signed.stream != self._stream:
                self._note("C30", item, [f"the event is of {signed.stream}"])
            self._note("C20", item, self._served_proof(signed.seq, item.position, opened.leaf))
            self._note("C20", item, self._in_tree(opened.leaf, item.position))
            self._note("C09", item, self._base(opened.parts, item.position))
            at = iso_of(signed.at)
            self._note("C10", item, c10_time(at, last_at))
            last_at = at

    def fold(self, placed: Sequence[Placed], nodes: Nodes | None) -> None:
        """Judge every event by itself and fold the order, from a file that holds nothing else."""
        with self._file(placed) as path, snapshot(path) as db:
            order = StreamPass(db, self._book, self._keys, whole=False)
            folded = order.run(EVERY_STREAM, lambda _: None)
            self._book.note("C12", c12_no_other_claims(db, folded.claims))
            if nodes is not None:
                for _ in ChainPass(db, self._book, nodes).run(folded.unreadable):
                    pass

    def held(self, evidence: Evidence, served: Held, placed: Sequence[Placed]) -> None:
        """Compare what others hold of this order, and the end that the service signs for it."""
        self._book.note("C26", self._end(served, placed))
        mine = [held for held in evidence.held if self._is_mine(held)]
        left = len(evidence.held) - len(mine)
        if left:
            self._book.report.notes.append(f"{left} held things are of other orders: not compared")
        others = Others(self._book, replace(evidence, held=[*mine, served]))
        genesis = self._keys.genesis
        others.read(genesis.origin, self._keys.every("log"), genesis.continues)
        with self._file(placed) as path, snapshot(path) as db:
            wallets = frozenset(self._keys.every("wallet"))
            size, verify = self._head.size, verify_signature
            judge = Judge(db, wallets, size, self._root_at, verify, genesis.origin)
            others.compare(judge, open_entry)

    def _end(self, served: Held, placed: Sequence[Placed]) -> Iterator[str]:
        """C26: the service signs that the order ends with the last event that it shows."""
        text = served.order_head[0].encode() if served.order_head is not None else b""
        try:
            said = orjson.loads(text.removeprefix(ORDER_HEAD_PREFIX))
            end = (said["stream"], said["seq"], said["leaf"], said["size"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            yield "the signed end of the order has another form"
            return
        leaf = open_entry(placed[-1].entry).leaf.hex() if placed else ""
        if end != (self._stream, len(placed), leaf, self._head.size):
            yield "the service signs another end of the order than it shows"

    def _is_mine(self, held: Held) -> bool:
        if held.entry is None:
            return held.order_head is None or f'"{self._stream}"' in held.order_head[0]
        parts = open_entry(held.entry).parts
        return parts is None or parts.signed.stream == self._stream

    def _root_at(self, size: int) -> bytes:
        try:
            return self._tree.root_at(size)
        except VerificationError:
            return b""  # the tiles do not fit the signed head: no root is the one asked for

    def _in_tree(self, leaf: bytes, position: int) -> Iterator[str]:
        try:
            self._tree.require(leaf, position)
        except VerificationError as error:
            yield error.message

    def _served_proof(self, seq: int, position: int, leaf: bytes) -> Iterator[str]:
        path = f"/ledger/orders/{self._order_id}/events/{seq}/proof?size={self._head.size}"
        try:
            said = parse_inclusion(self._log.get(path, MAX_TEXT).decode("utf-8", "replace"))
            if said.index != position - 1:
                yield f"the proof is for index {said.index}"
            verify_inclusion(leaf, position - 1, self._head.size, said.proof, self._head.root)
        except VerificationError as error:
            yield error.message

    def _base(self, parts: Parts, position: int) -> Iterator[str]:
        size = parts.base_size
        if size >= position:
            yield f"the base of size {size} is not older than the event"
        elif self._root_at(size).hex() != parts.base_root:
            yield f"the base names another root of size {size} than the signed head continues"

    def _note(self, check: str, item: Placed, problems: Problems) -> None:
        self._book.note(check, problems, item.position, self._stream)

    @contextmanager
    def _file(self, placed: Sequence[Placed]) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="ivxp-ledger-audit-") as folder:
            path = Path(folder) / "order.db"
            copy = LedgerCopy(path)
            copy.add_entries((p.position, p.entry) for p in placed)
            copy.close()
            yield path


def _has_signed(placed: Sequence[Placed], wallet: str) -> bool:
    return any(commits_to_the_log(item.entry, wallet) for item in placed)


def _parts(book: Book, item: Placed) -> Parts | None:
    opened = open_entry(item.entry)
    if opened.parts is None:
        check, message = opened.problem or ("C01", "no entry")
        book.note(check, [message], item.position)
        return None
    book.note("C01", ())
    book.note("C02", ())
    return opened.parts


def _placed(raw: Any) -> list[Placed]:  # noqa: ANN401 - JSON of any shape
    try:
        found = [Placed(int(item["position"]), str(item["entry"]).encode()) for item in raw]
    except (TypeError, KeyError, ValueError) as error:
        raise AuditImpossible("the service shows no list of events") from error
    if len({item.position for item in found}) != len(found):
        raise AuditImpossible("the service shows two events at one position")
    return found


def _order_head(shown: Any) -> tuple[str, str]:  # noqa: ANN401 - JSON of any shape
    head = shown.get("order_head")
    if not isinstance(head, dict):
        raise AuditImpossible("the service does not sign where the order ends")
    return str(head.get("text")), str(head.get("signature"))


def _no_leaf(index: int) -> bytes:
    raise VerificationError(f"no tile holds leaf {index}")
