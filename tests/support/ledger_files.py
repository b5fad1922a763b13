"""Ledgers as files: written by the real service object, with every table filled. No HTTP, no chain.

What the chain would say is made by hand; everything else is real: decisions, signatures, commits.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from hashlib import sha256
from itertools import cycle
from pathlib import Path
from typing import Final, Literal

from coincurve import PrivateKey

from ledger import commands as c
from ledger.audit_entries import open_entry
from ledger.audit_signatures import judged_singly
from ledger.audit_streams import Steps
from ledger.batch import Task
from ledger.content import commitment, plain, salted
from ledger.decide import OrderCommand
from ledger.decision import decided
from ledger.errors import LedgerError
from ledger.event import ClientText, Event, Finality, Transfer
from ledger.finding import ChainView, Finding
from ledger.log_events import ChainBound, PaymentUnattributed, PolicySet
from ledger.order_events import OrderQuoted
from ledger.service import Ledger, LedgerConfig
from ledger.signing import Signer, eip191_digest, verify_signature
from ledger.store_sqlite import ContentRow
from ledger.values import (
    LOG_STREAM,
    ZERO_ADDRESS,
    UnixMs,
    iso_of,
    new_content_id,
    new_order_id,
    order_stream,
)
from tests.support.cursor_stories import STREAM, tell_cursors

ORIGIN: Final = "ledger.example/one"
CHAIN: Final = "eip155:84532"
TOKEN: Final = "0x" + "70" * 20
PAYMENT_ADDRESS: Final = "0x" + "9a" * 20
RECOVERY: Final = "0x" + "bb" * 20
WALLET_SECRET: Final = b"\x01" * 32
LOG_SEED: Final = b"\x02" * 32
PRICE: Final = 5_000_000
START: Final = 1_767_268_800_000
"""2026-01-01T12:00:00Z in Unix milliseconds."""
HOUR: Final = 3_600_000


class Wallet:
    """A party that signs texts."""

    def __init__(self, name: str) -> None:
        self.secret: Final = sha256(f"wallet {name}".encode()).digest()
        self._key = PrivateKey(self.secret)
        self.address: Final = Signer(self.secret).address
        self.account: Final = f"{CHAIN}:{self.address}"

    def sign(self, text: str) -> ClientText:
        raw = self._key.sign_recoverable(eip191_digest(text.encode()), hasher=None)
        return ClientText(
            text=text, signature="0x" + raw[:64].hex() + f"{raw[64] + 27:02x}", signer=self.address
        )


CLIENT: Final = Wallet("client")
ARBITER: Final = Wallet("arbiter")


@dataclass(slots=True)
class LedgerFiles:
    """One ledger on disk; `erased` are the content rows that went from it."""

    folder: Path
    recovery: str = RECOVERY
    erased: list[ContentRow] = field(default_factory=list)

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def database(self) -> Path:
        return self.data_dir / "ledger.db"

    @property
    def guard(self) -> Path:
        return self.folder / "data.guard"

    def open(self, clock: Callable[[], UnixMs] = lambda: UnixMs(START)) -> Ledger:
        """Open the ledger as the service does."""
        return Ledger(
            LedgerConfig(
                data_dir=self.data_dir,
                guard_file=self.guard,
                origin=ORIGIN,
                network="base-sepolia",
                wallet_secret=WALLET_SECRET,
                log_seed=LOG_SEED,
                payment_address=f"{CHAIN}:{PAYMENT_ADDRESS}",
                recovery_address=self.recovery,
                dev_chain=True,
                clock=clock,
            )
        )


class Teller:
    """Tells stories of orders to a ledger, one command after another, a second apart."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.now = max(UnixMs(START), ledger.store.last_at())
        self.blocks = 100
        self.erased: list[ContentRow] = []

    def tick(self, milliseconds: int = 1000) -> UnixMs:
        self.now = UnixMs(self.now + milliseconds)
        return self.now

    async def log(self, *events: Event) -> None:
        """Append events of the log itself."""
        task = Task(LOG_STREAM, lambda _state, _claimed, _at: decided(*events), self.tick())
        await self.ledger._writer.submit(task)

    async def quote(self, client: str = CLIENT.account) -> Story:
        order_id = new_order_id()
        now = self.tick()
        stream = order_stream(order_id)
        rows = tuple(
            salted(stream, name, f"{name} of {order_id}")
            for name in ("description", "client_name", "contact_endpoint")
        )
        terms = OrderQuoted(
            service="code_review",
            client=client,
            price=PRICE,
            chain=CHAIN,
            token=TOKEN,
            payment_address=PAYMENT_ADDRESS,
            pay_by=now // 1000 + 3600,
            deliver_by=now // 1000 + 7200,
            acceptance_window=86_400,
            answer_window=43_200,
            refund_policy=sha256(b"policy").hexdigest(),
            arbiter=ARBITER.address,
            **{f"{row.field}_id": row.content_id for row in rows},
        )
        commit = {row.field: commitment(row) for row in rows}
        await self.ledger.execute(order_id, c.IssueQuote(terms, commit, now), rows)
        return Story(self, order_id, terms)


@dataclass(slots=True)
class Story:
    """One order, and what its parties and the chain do."""

    teller: Teller
    order_id: str
    terms: OrderQuoted
    raw: bytes = b""
    content_id: str = ""

    async def do(self, command: OrderCommand, *rows: ContentRow) -> None:
        """Execute a command; its refusal after an append is part of the story."""
        try:
            await self.teller.ledger.execute(self.order_id, command, rows)
        except LedgerError as error:
            if error.receipt is None:
                raise

    def transfer(
        self, name: str, amount: int = PRICE, *, after_seconds: int = 30, fork: str = ""
    ) -> Transfer:
        """Return a transfer of the client; the time counts from `pay_by` back if negative."""
        self.teller.blocks += 1
        return self._moved(
            name, amount, self.terms.pay_by - 3600 + after_seconds, fork, outgoing=False
        )

    def refund(self, name: str, amount: int = PRICE) -> Transfer:
        self.teller.blocks += 1
        return self._moved(name, amount, self.teller.now // 1000, "", outgoing=True)

    def _moved(self, name: str, amount: int, time: int, fork: str, *, outgoing: bool) -> Transfer:
        parties = [CLIENT.address, PAYMENT_ADDRESS]
        sender, recipient = reversed(parties) if outgoing else parties
        block = f"block {self.teller.blocks}{fork}".encode()
        return Transfer(
            chain=CHAIN,
            tx_hash=self.tx(name),
            ordinal=2,
            log_index=5,
            block_number=self.teller.blocks,
            block_hash="0x" + sha256(block).hexdigest(),
            block_time=time,
            sender=sender,
            recipient=recipient,
            amount=amount,
        )

    def tx(self, name: str) -> str:
        return "0x" + sha256(f"tx {name} of {self.order_id}".encode()).hexdigest()

    async def notice(self, name: str, finding: Finding, *, endpoint: bool = False) -> None:
        """Let the client say that a transaction paid."""
        now = self.teller.tick()
        nonce = f"nonce-{name:-<16}"
        text = (
            f"IVXP-DELIVER | Order: {self.order_id} | Payment: {self.tx(name)}"
            f" | Nonce: {nonce} | Timestamp: {iso_of(now)}"
        )
        stream = order_stream(self.order_id)
        rows = (salted(stream, "delivery_endpoint", "https://client.example"),) if endpoint else ()
        said = c.Notice(
            client=CLIENT.sign(text),
            tx_hash=self.tx(name),
            nonce=nonce,
            stamp=now,
            delivery_endpoint_id=rows[0].content_id if rows else None,
            commit={row.field: commitment(row) for row in rows},
        )
        await self.do(c.AcceptNotice(said, finding, now), *rows)

    async def pay(
        self, name: str = "a", amount: int = PRICE, *, endpoint: bool = False
    ) -> Transfer:
        transfer = self.transfer(name, amount)
        await self.notice(name, mined(transfer), endpoint=endpoint)
        return transfer

    async def hand_in(self, raw: bytes = b"the deliverable\n") -> None:
        quoted = '"' + raw.decode().replace("\n", "\\n") + '"'
        item = c.Deliverable(
            content_id=new_content_id(),
            raw=sha256(raw).hexdigest(),
            json_digest=sha256(quoted.encode()).hexdigest(),
            size_bytes=len(raw),
            format="text",
            content_type="text/plain",
        )
        row = plain(order_stream(self.order_id), item.content_id, raw)
        await self.do(c.HandIn(item, self.teller.tick()), row)
        order = await self.teller.ledger.order(self.order_id)
        assert order is not None
        assert order.deliverable is not None
        # A repeat of the same bytes leaves the first row.
        self.raw, self.content_id = raw, order.deliverable.content_id

    async def push(
        self,
        outcome: Literal["accepted", "refused", "exhausted"],
        target: Literal["delivery_endpoint", "contact_endpoint"] = "delivery_endpoint",
    ) -> None:
        status = 200 if outcome == "accepted" else 503
        await self.do(c.RecordPush(target, outcome, status, self.teller.tick()))

    async def collect(self, by: Literal["bearer", "party"] = "bearer") -> None:
        await self.do(c.NoteCollected(by, self.teller.tick()))

    async def confirm(self, *, with_head: bool = False, with_hash: bool = True) -> None:
        now, head = self.teller.tick(), self.teller.ledger.head.tree_head
        named = sha256(self.raw).hexdigest()
        middle = f" | Head: {head.size}:{head.root}" if with_head else ""
        text = (
            f"Order: {self.order_id} | Received: true | Hash: {named}{middle}"
            f" | Timestamp: {iso_of(now)}"
            if with_hash
            else f"Confirm delivery: {self.order_id} | Timestamp: {iso_of(now)}"
        )
        digest = named if with_hash else None
        shown = head if with_head else None
        await self.do(c.ConfirmDelivery(CLIENT.sign(text), now, digest, None, shown, 5, now))

    async def dispute(self, reason: Literal["not_delivered", "other"] = "other") -> None:
        now = self.teller.tick()
        text = (
            f"Dispute delivery: {self.order_id} | Reason: {reason} | Hash: none"
            f" | Statement: none | Timestamp: {iso_of(now)}"
        )
        row = salted(order_stream(self.order_id), "statement", "this is not what I asked for")
        commit = {row.field: commitment(row)}
        said = c.OpenDispute(CLIENT.sign(text), now, reason, None, row.content_id, commit, now)
        await self.do(said, row)

    async def answer(self) -> None:
        row = salted(order_stream(self.order_id), "statement", "it is what was quoted")
        commit = {row.field: commitment(row)}
        await self.do(c.AnswerDispute("rejects", row.content_id, commit, self.teller.tick()), row)

    async def withdraw(self) -> None:
        now = self.teller.tick()
        text = f"Withdraw dispute: {self.order_id} | Timestamp: {iso_of(now)}"
        await self.do(c.WithdrawDispute(CLIENT.sign(text), now, now))

    async def rule(self, amount: int) -> None:
        now = self.teller.tick()
        text = (
            f"Rule dispute: {self.order_id} | Outcome: split | Amount: {amount}"
            f" | Timestamp: {iso_of(now)}"
        )
        await self.do(c.RuleDispute(ARBITER.sign(text), now, "split", amount, now))

    async def give_back(self, name: str, amount: int = PRICE) -> None:
        await self.do(c.RecordRefund(mined(self.refund(name, amount)), self.teller.tick()))

    async def erase(self) -> None:
        """Erase the deliverable, and remember the row that goes with the event."""
        row = self.teller.ledger.store.content(self.content_id)
        await self.do(c.EraseContent((self.content_id,), "request", self.teller.tick()))
        if row is not None:
            self.teller.erased.append(row)


def mined(*transfers: Transfer, finality: Finality = "sealed") -> Finding:
    first = transfers[0]
    return Finding(
        first.tx_hash,
        ChainView.MINED,
        transfers,
        depth=3,
        finality=finality,
        head_number=first.block_number + 2,
    )


def unseen(tx_hash: str, view: ChainView = ChainView.NOT_FOUND, *, safe_time: int = 0) -> Finding:
    return Finding(tx_hash, view, head_number=200, safe_time=safe_time)


# Stories; together they hold every kind of event that the service can record today.


async def collected(teller: Teller) -> None:
    story = await teller.quote()
    await story.pay()
    await story.hand_in()
    await story.collect()
    await story.confirm()


async def pushed_after_a_claim(teller: Teller) -> None:
    story = await teller.quote()
    await story.notice("a", unseen(story.tx("a"), ChainView.SHALLOW), endpoint=True)
    await story.do(c.ResolveClaim(mined(story.transfer("a")), teller.tick()))
    await story.hand_in("übergeben\n".encode())
    await story.push("refused")
    await story.push("accepted")
    await story.confirm(with_head=True)
    await story.collect("party")


async def paid_in_parts(teller: Teller) -> None:
    story = await teller.quote(f"{CHAIN}:{ZERO_ADDRESS}")
    await story.pay("a", PRICE - 7)
    await story.pay("b", 9, endpoint=True)
    await story.hand_in()
    await story.push("accepted")
    await story.confirm(with_hash=False)


async def expired_then_late(teller: Teller) -> None:
    story = await teller.quote()
    end = story.terms.pay_by
    await story.notice("a", unseen(story.tx("a")))
    await story.do(c.ResolveClaim(unseen(story.tx("a"), safe_time=end + 1), teller.tick()))
    teller.blocks += 1
    scanned = c.ExpireQuote(teller.blocks, end + 1, candidate_transfers=False, now=teller.tick())
    await story.do(scanned)
    late = story.transfer("b", after_seconds=3700)
    await story.notice("b", mined(late))
    await story.give_back("c")


async def failed_and_retried(teller: Teller) -> None:
    story = await teller.quote()
    await story.pay()
    await story.do(c.FailHandler(2, "ValueError", teller.tick()))
    await story.do(c.StartProcessing("retry", teller.tick()))
    await story.hand_in()
    await story.push("exhausted")
    await story.collect()
    teller.tick(30 * HOUR)
    await story.do(c.LapseAcceptance(teller.tick()))


async def reorganised(teller: Teller) -> None:
    story = await teller.quote()
    first = await story.pay()
    moved = {first.block_number: "0x" + "0b" * 32}
    await story.do(c.RecheckPayment(unseen(first.tx_hash), moved, teller.tick()))
    again = story.transfer("a", fork=" again")
    await story.do(c.RecheckPayment(mined(again), {}, teller.tick()))
    await story.hand_in()
    await story.do(c.RecheckPayment(mined(again, finality="finalized"), {}, teller.tick()))
    await story.collect()


async def disputed_and_ruled(teller: Teller) -> None:
    story = await teller.quote()
    await story.pay()
    await story.hand_in()
    await story.collect()
    await story.dispute()
    await story.answer()
    await story.rule(PRICE // 2)
    await story.give_back("b", PRICE // 2)


async def disputed_undelivered(teller: Teller) -> None:
    story = await teller.quote()
    await story.pay()
    teller.tick(3 * HOUR)
    await story.dispute("not_delivered")
    teller.tick(13 * HOUR)
    await story.do(c.LapseAnswer(teller.tick()))
    await story.give_back("b")


async def disputed_and_withdrawn(teller: Teller) -> None:
    story = await teller.quote()
    await story.notice("x", unseen(story.tx("x"), ChainView.REVERTED))
    await story.pay()
    await story.hand_in()
    await story.collect()
    await story.dispute()
    await story.withdraw()
    await story.confirm()


async def erased(teller: Teller) -> None:
    story = await teller.quote()
    await story.pay()
    await story.hand_in()
    await story.collect()
    await story.confirm()
    await story.erase()


async def found_by_the_watcher(teller: Teller) -> None:
    story = await teller.quote()
    found = mined(story.transfer("a"))
    await story.do(c.RecordTransfers(found, None, teller.tick()))
    await story.do(c.StartProcessing("worker", teller.tick()))
    await story.notice("a", found, endpoint=True)
    extra = story.transfer("b", 11)
    await story.do(c.RecordTransfers(mined(extra), None, teller.tick()))
    await story.hand_in()
    await story.push("refused", "contact_endpoint")
    await story.give_back("c", PRICE + 11)


async def never_mined_again(teller: Teller) -> None:
    story = await teller.quote()
    first = await story.pay()
    moved = {first.block_number: "0x" + "0b" * 32}
    await story.do(c.RecheckPayment(unseen(first.tx_hash), moved, teller.tick()))
    await story.do(c.DeclarePaymentImpossible(story.tx("other"), teller.tick()))


STORIES: Final[tuple[Callable[[Teller], Awaitable[None]], ...]] = (
    collected,
    pushed_after_a_claim,
    paid_in_parts,
    expired_then_late,
    failed_and_retried,
    reorganised,
    disputed_and_ruled,
    disputed_undelivered,
    disputed_and_withdrawn,
    erased,
    found_by_the_watcher,
    never_mined_again,
)


async def opening(teller: Teller) -> None:
    """Record what the log says of itself and of strange money."""
    await teller.ledger.bind_chain(
        ChainBound(chain=CHAIN, genesis_hash="0x" + "0e" * 32, token=TOKEN, block_number=90)
    )
    strange = Transfer(
        chain=CHAIN,
        tx_hash="0x" + "0c" * 32,
        ordinal=0,
        log_index=0,
        block_number=7,
        block_hash="0x" + "0d" * 32,
        block_time=START // 1000,
        sender=ARBITER.address,
        recipient=PAYMENT_ADDRESS,
        amount=3,
    )
    await teller.log(
        PolicySet(name="refund", digest=sha256(b"policy").hexdigest()),
        PaymentUnattributed(transfers=(strange,)),
    )


def write_ledger(
    folder: Path, *, events: int, at_once: int = 1, recovery: str = RECOVERY
) -> LedgerFiles:
    """Write a ledger of at least that many events; `at_once` stories share the commits."""
    files = LedgerFiles(folder, recovery)
    ledger = files.open()
    ledger.start()
    try:
        teller = Teller(ledger)
        asyncio.run(_tell(teller, events, at_once))
    finally:
        ledger.close()
    files.erased = teller.erased
    return files


async def _tell(teller: Teller, events: int, at_once: int) -> None:
    await opening(teller)
    stories = cycle(STORIES)
    told = 0
    while told < len(STORIES) or teller.ledger.store.size() < events:
        await asyncio.gather(*(next(stories)(teller) for _ in range(at_once)))
        told += at_once
    if teller.ledger.store.load(STREAM).state is None:
        await tell_cursors(teller.ledger, teller.tick)


# Copies in memory, for audits by the thousand


def in_memory(database: Path) -> sqlite3.Connection:
    """Return a copy that nothing protects any more: no triggers, no constraints on values."""
    source = sqlite3.connect(database)
    copy = sqlite3.connect(":memory:", isolation_level=None)
    source.backup(copy)
    source.close()
    copy.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    for (trigger,) in copy.execute(
        "SELECT name FROM sqlite_master WHERE type='trigger'"
    ).fetchall():
        copy.execute(f'DROP TRIGGER "{trigger}"')
    copy.execute("PRAGMA ignore_check_constraints=ON")
    return copy


@contextmanager
def undone(db: sqlite3.Connection) -> Iterator[None]:
    """Take back whatever is done to a copy inside the block."""
    db.execute("SAVEPOINT honest")
    try:
        yield
    finally:
        db.execute("ROLLBACK TO honest")
        db.execute("RELEASE honest")


def remembering() -> Steps:
    """Return the audit's costly steps so that each is done once for the same bytes."""
    verify = lru_cache(maxsize=None)(verify_signature)
    return Steps(
        open_entry=lru_cache(maxsize=None)(open_entry),
        verify=verify,
        wrong_signatures=partial(judged_singly, verify=verify),
    )
