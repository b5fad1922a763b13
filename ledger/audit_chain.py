"""What the chain itself says of the money in the log: the halves of C11, C13, C14, C29 outside it.

Only a contradiction is a finding. What no node answers, or what the nodes do not say alike, is
unknown, and unknown is never held against anybody.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from ledger.audit_report import Book
from ledger.audit_rpc import Nodes
from ledger.chain_answers import (
    FullBlock,
    Receipt,
    block_call,
    parsed,
    sealed_receipt,
    unavailable,
)
from ledger.chain_transfers import TOPICS, TRANSFER_TOPIC
from ledger.entry import SignedEvent, read_entry
from ledger.errors import ChainUnavailable
from ledger.event import Transfer
from ledger.log_events import ChainBound, PaymentUnattributed
from ledger.money import TransferId
from ledger.order_events import OrderQuoted, QuoteExpired
from ledger.payment_events import (
    PaymentLate,
    PaymentOrphaned,
    PaymentOverpaid,
    PaymentPartial,
    PaymentRestored,
    PaymentVerified,
    RefundRecorded,
)
from ledger.rpc import Call
from ledger.values import UnixMs, iso_of

AT_ONCE: Final = 32
SILENCES: Final = 3
BEACON_SLACK_S: Final = 60
"""A block may carry a time a little ahead of the clocks around it."""

_INCOMING: Final = (PaymentVerified, PaymentPartial, PaymentOverpaid, PaymentLate, PaymentRestored)
_KINDS: Final = (
    *(kind.kind for kind in _INCOMING),
    PaymentOrphaned.kind,
    PaymentUnattributed.kind,
    RefundRecorded.kind,
    OrderQuoted.kind,
    QuoteExpired.kind,
)
_ROWS: Final = (
    "SELECT originator_id, rowid, state FROM stored_events WHERE topic IN"  # noqa: S608 - our own
    f" ({','.join('?' * len(_KINDS))}) ORDER BY originator_id, originator_version"
)
_BOUND: Final = "SELECT rowid, state FROM stored_events WHERE topic=? ORDER BY rowid LIMIT 1"


@dataclass(frozen=True, slots=True)
class Recorded:
    """One transfer as an event has it; `token` is the contract that it must be a log of."""

    check: str
    position: int
    stream: str
    transfer: Transfer
    token: str


@dataclass(frozen=True, slots=True)
class Shown:
    """What the chain shows of a transfer: its receipt, and the block at the recorded height."""

    receipt: Receipt | None
    block: FullBlock | None


@dataclass(slots=True)
class Story:
    """The money of one stream, without what was orphaned in the end."""

    key: object
    name: str
    quoted: SignedEvent | None = None
    quoted_at: int = 0
    incoming: dict[TransferId, tuple[int, Transfer]] = field(default_factory=dict)
    refunds: list[tuple[int, Transfer]] = field(default_factory=list)
    expired: tuple[int, QuoteExpired] | None = None
    paid: bool = False

    def add(self, position: int, signed: SignedEvent) -> None:
        """Take in one more event of the stream."""
        event = signed.event
        match event:
            case OrderQuoted():
                self.quoted, self.quoted_at = signed, position
            case PaymentOrphaned():
                for item in event.transfers:
                    self.incoming.pop(item.key, None)
            case RefundRecorded():
                self.refunds += [(position, transfer) for transfer in event.transfers]
            case QuoteExpired():
                self.expired = (position, event)
            case _ if isinstance(event, (*_INCOMING, PaymentUnattributed)):
                self.incoming |= {t.key: (position, t) for t in event.transfers}
                self.paid |= isinstance(event, PaymentVerified)
            case _:
                return


class ChainPass:
    """Asks the chain for everything that the log says of it, a few questions per request."""

    def __init__(self, db: sqlite3.Connection, book: Book, nodes: Nodes) -> None:
        self._db = db
        self._book = book
        self._nodes = nodes
        self._waiting: list[Recorded] = []
        self._silences = 0
        self.token = ""
        self.first_block = 0

    def run(self, unreadable: Container[object]) -> Iterator[Story]:
        """Compare every transfer, and give out each stream's money for what else is asked of it."""
        self._bound(unreadable)
        story: Story | None = None
        for key, position, entry in self._db.execute(_ROWS, _KINDS):
            if position in unreadable:
                continue
            signed = read_entry(entry)
            if story is None or story.key != key:
                if story is not None:
                    yield self._compare(story)
                story = Story(key, signed.stream)
            story.add(position, signed)
        if story is not None:
            yield self._compare(story)
        self._flush()

    def unknown(self, check: str, position: int, stream: str, why: str) -> None:
        """Say that something could not be checked."""
        self._book.unknown(check, f"could not check: {why}", position, stream)

    def heard(self, error: ChainUnavailable | None) -> None:
        """Count silences in a row: whoever does not answer is not asked a thousand times more."""
        self._silences = 0 if error is None else self._silences + 1

    @property
    def silent(self) -> bool:
        """Whether the nodes are given up."""
        return self._silences >= SILENCES

    def _bound(self, unreadable: Container[object]) -> None:
        row = self._db.execute(_BOUND, (ChainBound.kind,)).fetchone()
        if row is not None and row[0] not in unreadable:
            event = read_entry(row[1]).event
            if isinstance(event, ChainBound):
                self.token, self.first_block = event.token, event.block_number

    def _compare(self, story: Story) -> Story:
        quoted = story.quoted.event if story.quoted is not None else None
        token = quoted.token if isinstance(quoted, OrderQuoted) else self.token
        found = [("C13", *item) for item in story.incoming.values()]
        found += [("C29", *item) for item in story.refunds]
        for check, position, transfer in found:
            self._waiting.append(Recorded(check, position, story.name, transfer, token))
            if len(self._waiting) >= AT_ONCE:
                self._flush()
        return story

    def _flush(self) -> None:
        items, self._waiting = self._waiting, []
        try:
            shown = self._shown(items) if items and not self.silent else []
            self.heard(None) if shown else None
            why = "the nodes gave no answer before"
        except ChainUnavailable as error:
            shown, why = [], error.message
            self.heard(error)
        for at, item in enumerate(items):
            if not shown:
                self.unknown(item.check, item.position, item.stream, why)
                continue
            self._judge(item, shown[at])

    def _judge(self, item: Recorded, shown: Shown) -> None:
        transfer, head = item.transfer, self._nodes.head
        if transfer.chain != self._nodes.chain:
            why = f"the transfer is on {transfer.chain}, the nodes are of {self._nodes.chain}"
            self.unknown(item.check, item.position, item.stream, why)
        elif shown.block is None or transfer.block_number > head:
            why = f"the nodes do not know block {transfer.block_number}"
            self.unknown(item.check, item.position, item.stream, why)
        else:
            problems = c13_on_chain(item, shown.receipt, shown.block)
            self._book.note(item.check, problems, item.position, item.stream)

    def _shown(self, items: Sequence[Recorded]) -> list[Shown]:
        calls: list[Call] = []
        for item in items:
            calls.append(("eth_getTransactionReceipt", [item.transfer.tx_hash]))
            calls.append(block_call(item.transfer.block_number))

        def read(results: list[object]) -> list[Shown]:
            return [
                Shown(
                    sealed_receipt(results[2 * at], item.transfer.tx_hash),
                    _block_at(item.transfer.block_number, results[2 * at + 1]),
                )
                for at, item in enumerate(items)
            ]

        return self._nodes.ask(calls, read)


def _block_at(number: int, raw: object) -> FullBlock | None:
    block = None if raw is None else parsed(FullBlock, raw)
    if block is not None and block.number != number:
        raise unavailable("a node answered with a block of another height", "malformed")
    return block


def c13_on_chain(item: Recorded, receipt: Receipt | None, block: FullBlock) -> Iterator[str]:
    """C13, C29: the chain shows this very transfer: token, parties, sum, block and time."""
    said = item.transfer
    name = f"{said.tx_hash}#{said.ordinal}"
    if receipt is None:
        if block.hash != said.block_hash:
            yield f"{name}: block {said.block_number} is {block.hash}, not {said.block_hash}"
        elif said.tx_hash not in block.transactions:
            yield f"{name}: block {said.block_number} holds no such transaction"
        return
    if receipt.status != 1:
        yield f"{name}: the transaction failed on the chain"
    place = (receipt.block_number, receipt.block_hash)
    if place != (said.block_number, said.block_hash):
        yield f"{name}: is in block {place[0]} {place[1]}, not {said.block_number}"
    elif (block.hash, block.timestamp) != (said.block_hash, said.block_time):
        yield f"{name}: the chain's block is {block.hash} of {block.timestamp}"
    yield from _log_of(item, receipt, name)


def _log_of(item: Recorded, receipt: Receipt, name: str) -> Iterator[str]:
    said = item.transfer
    if said.ordinal >= len(receipt.logs):
        yield f"{name}: the receipt has {len(receipt.logs)} logs"
        return
    log = receipt.logs[said.ordinal]
    topics = [TRANSFER_TOPIC, *(topic_of(address) for address in (said.sender, said.recipient))]
    if log.address != item.token or len(log.topics) != TOPICS or log.topics[0] != TRANSFER_TOPIC:
        yield f"{name}: the chain's log is no transfer of {item.token}"
    elif log.topics != topics:
        yield f"{name}: the chain's transfer is between other parties"
    elif int(log.data, 16) != said.amount:
        yield f"{name}: the chain moved {int(log.data, 16)}, not {said.amount}"


def c11_not_before(at: UnixMs, number: int, named: str, block: FullBlock) -> Iterator[str]:
    """C11: the block that an event names as older exists and is not younger than the event."""
    if block.hash != named:
        yield f"the event names block {number} as {named}; the chain has {block.hash}"
    elif (block.timestamp - BEACON_SLACK_S) * 1000 > at:
        yield f"the event is of {iso_of(at)}, before block {number} of {block.timestamp}"


def topic_of(address: str) -> str:
    """Return an address as a log's topic."""
    return "0x" + "0" * 24 + address.removeprefix("0x")
