"""What the chain says of a quote: the block it names, and whether it expired although it was paid.

The claims and the unattributed money of the log are looked up: what was counted elsewhere, or is
recorded as nobody's, does not pay this quote.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Container, Iterator
from typing import Final

from ledger.audit_chain import ChainPass, Story, c11_not_before, topic_of
from ledger.audit_report import Book
from ledger.audit_rpc import Nodes
from ledger.chain_answers import FullBlock, ScannedLog, block_call, parsed, unavailable
from ledger.chain_transfers import TRANSFER_TOPIC
from ledger.entry import read_entry
from ledger.errors import ChainUnavailable
from ledger.log_events import PaymentUnattributed
from ledger.order_events import OrderQuoted, QuoteExpired
from ledger.values import LOG_STREAM, ZERO_ADDRESS, address_of, stream_key

SPAN: Final = 2000
MAX_SPANS: Final = 50
_CLAIMED: Final = "SELECT 1 FROM claims WHERE chain=? AND tx_hash=? AND stream<>? LIMIT 1"
_UNATTRIBUTED: Final = "SELECT rowid, state FROM stored_events WHERE originator_id=? AND topic=?"


def check_chain(
    db: sqlite3.Connection, book: Book, nodes: Nodes, unreadable: Container[object]
) -> None:
    """Compare everything that the log says of the chain with the chain."""
    chain = ChainPass(db, book, nodes)
    quotes = _Quotes(db, book, nodes, chain, unreadable)
    for story in chain.run(unreadable):
        quotes.check(story)
    if chain.silent:
        book.report.notes.append(f"the chain was given up: {nodes.names} did not answer")
    else:
        book.report.notes.append(f"the chain was asked at {nodes.names}")


class _Quotes:
    def __init__(
        self,
        db: sqlite3.Connection,
        book: Book,
        nodes: Nodes,
        chain: ChainPass,
        unreadable: Container[object],
    ) -> None:
        self._db = db
        self._book = book
        self._nodes = nodes
        self._chain = chain
        rows = db.execute(_UNATTRIBUTED, (stream_key(LOG_STREAM), PaymentUnattributed.kind))
        events = [read_entry(entry).event for at, entry in rows if at not in unreadable]
        self._nobodys = {
            transfer.tx_hash
            for event in events
            if isinstance(event, PaymentUnattributed)
            for transfer in event.transfers
        }

    def check(self, story: Story) -> None:
        """Check one order's quote and its expiry; silence is noted as such."""
        quoted = story.quoted
        if quoted is None or not isinstance(quoted.event, OrderQuoted):
            return
        if quoted.beacon is not None:
            with_beacon = self._beacon(story)
            self._said("C11", story.quoted_at, story.name, with_beacon)
        if story.expired is not None:
            position, event = story.expired
            self._said("C14", position, story.name, self._expiry(story, quoted.event, event))

    def _said(self, check: str, position: int, stream: str, problems: Iterator[str]) -> None:
        if self._chain.silent:
            self._chain.unknown(check, position, stream, "the nodes gave no answer before")
            return
        try:
            found = list(problems)
        except ChainUnavailable as error:
            self._chain.heard(error)
            self._chain.unknown(check, position, stream, error.message)
            return
        self._chain.heard(None)
        self._book.note(check, found, position, stream)

    def _beacon(self, story: Story) -> Iterator[str]:
        quoted = story.quoted
        if quoted is not None and quoted.beacon is not None:
            self._require_chain(quoted.beacon.chain)
            block = self._block(quoted.beacon.number)
            yield from c11_not_before(quoted.at, block.number, quoted.beacon.hash, block)

    def _expiry(self, story: Story, terms: OrderQuoted, expired: QuoteExpired) -> Iterator[str]:
        """C14: the block that ended the wait is as recorded, and nothing had paid by then."""
        self._require_chain(terms.chain)
        block = self._block(expired.scanned_block)
        if block.timestamp != expired.scanned_block_time:
            yield f"block {block.number} is of {block.timestamp}, not {expired.scanned_block_time}"
        if story.paid or address_of(terms.client) == ZERO_ADDRESS:
            return
        beacon = story.quoted.beacon if story.quoted is not None else None
        first = beacon.number if beacon is not None else self._chain.first_block
        found = self._paid_in_time(story, terms, first, expired.scanned_block)
        if sum(found.values()) >= terms.price:
            yield f"the client had paid {sum(found.values())} in time: {', '.join(sorted(found))}"

    def _paid_in_time(
        self, story: Story, terms: OrderQuoted, first: int, last: int
    ) -> dict[str, int]:
        """Return what each transaction of the client paid in time that no other order counts."""
        if last - first > SPAN * MAX_SPANS:
            raise unavailable(f"{last - first} blocks are too many to search", "span")
        paid: dict[str, int] = {}
        for start in range(first, last + 1, SPAN):
            for log in self._logs(terms, start, min(start + SPAN - 1, last)):
                tx = log.transaction_hash
                other = self._db.execute(_CLAIMED, (terms.chain, tx, story.name)).fetchone()
                if other is None and tx not in self._nobodys:
                    in_time = self._block(log.block_number).timestamp <= terms.pay_by
                    paid[tx] = paid.get(tx, 0) + (int(log.data, 16) if in_time else 0)
        return paid

    def _logs(self, terms: OrderQuoted, first: int, last: int) -> list[ScannedLog]:
        ends = [topic_of(address_of(terms.client)), topic_of(terms.payment_address)]
        query = {
            "fromBlock": hex(first),
            "toBlock": hex(last),
            "address": terms.token,
            "topics": [TRANSFER_TOPIC, *ends],
        }

        def read(results: list[object]) -> list[ScannedLog]:
            [raw] = results
            if not isinstance(raw, list):
                raise unavailable("the node did not answer with logs", "malformed")
            return [parsed(ScannedLog, item) for item in raw]

        return self._nodes.ask([("eth_getLogs", [query])], read)

    def _block(self, number: int) -> FullBlock:
        def read(results: list[object]) -> FullBlock:
            if results[0] is None:
                raise unavailable(f"the nodes do not know block {number}", "lag")
            return parsed(FullBlock, results[0])

        return self._nodes.ask([block_call(number)], read)

    def _require_chain(self, chain: str) -> None:
        if chain != self._nodes.chain:
            raise unavailable(f"the nodes are of {self._nodes.chain}, not {chain}", "chain")
