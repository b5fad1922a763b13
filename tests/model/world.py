"""The provider together with its shadow: every step is foretold, taken, and compared."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import chain as joined
from pathlib import Path
from typing import Any, Final

import uvloop

from ledger.evolve import fold
from projections.orders import order_row, view_of
from tests.model import shown
from tests.model.books import Books, Rules
from tests.model.expect import Expectation, Expected, Said
from tests.model.node import Tx
from tests.model.people import Client, Wallet
from tests.model.provider import (
    ACCEPT_WITHIN_S,
    ANSWER_WITHIN_S,
    CONFIRMATIONS,
    EPOCH,
    KEEP_FOR_S,
    PUSH_DELAYS_S,
    Loop,
    Provider,
    loops_by_hand,
)
from tests.model.shadow import ORPHANED, Shadow
from tests.model.stream import backlog
from tests.model.wire import Answer, Ask, get

Json = dict[str, Any]
Foretell = Callable[[], Expected]
VIEWS: Final = ("", "?view=strict", "?protocol=1.1")
LOOKS: Final = 2
"""So often a transaction is looked at before it is nobody's."""
MAX_ROUNDS: Final = 10
QUOTE_SKEW_S: Final = 60
A_DAY_AND_MORE_MS: Final = 26 * 3600 * 1000
"""No quote lives that long, whatever transfers might pay it."""
LOOPS: Final[tuple[Loop, ...]] = (
    "payments",
    "claims",
    "scan",
    "push",
    "windows",
    "retention",
)


@dataclass(frozen=True)
class Kept:
    """What a key was used for, and the first answer to it; `in_memory` ones end with a start."""

    what: bytes
    body: Json
    in_memory: bool


@dataclass(frozen=True)
class Sent:
    """A request as it was sent, and how to foretell its answer whenever it is sent again."""

    act: str
    ask: Ask
    foretell: Foretell
    order: Shadow | None
    key: tuple[str, ...] | None = None
    said: Said | None = None


@dataclass
class Play:
    """One example: two clients, what they ordered, and what was sent on the chain."""

    clients: tuple[Client, Client]
    orders: list[Shadow] = field(default_factory=list)
    txs: list[Tx] = field(default_factory=list)
    refunds: list[Tx] = field(default_factory=list)
    pool: list[Tx] = field(default_factory=list)
    """Sent, and in no block."""
    moved: set[str] = field(default_factory=set)
    """Transactions that a reorganisation touched since the service looked at its payments."""
    sent: list[Sent] = field(default_factory=list)
    keys: dict[tuple[str, ...], Kept] = field(default_factory=dict)
    leases: dict[str, tuple[str, int]] = field(default_factory=dict)


class World:
    """One service on one chain for many plays, each with clients of its own."""

    def __init__(self, folder: Path) -> None:
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._stack = AsyncExitStack()
        self.provider = Provider(folder)
        self.chain = self.provider.chain
        rules = Rules(
            treasury=self.provider.treasury.address,
            arbiter=self.provider.arbiter.address,
            confirmations=CONFIRMATIONS,
            accept_within_s=ACCEPT_WITHIN_S,
            answer_within_s=ANSWER_WITHIN_S,
            keep_for_s=KEEP_FOR_S,
        )
        self.books = Books(self.chain, rules)
        self.expect = Expectation(self.books, self.chain, rules)
        self.play = Play(self._clients(0))
        self.plays = 0
        self.kinds: Counter[str] = Counter()
        self.spoiled = False
        """A play failed in it: what it left is nobody's expectation."""
        self.do(self._open())

    def do(self, what: Any) -> Any:  # noqa: ANN401 - any coroutine and what it returns
        """Run a coroutine to its end."""
        return self._runner.run(what)

    def close(self) -> None:
        self.do(self._stack.aclose())
        self._runner.close()

    async def _open(self) -> None:
        self._stack.enter_context(loops_by_hand())
        await self._stack.enter_async_context(self.provider.running())
        self.provider.news()

    def _clients(self, number: int) -> tuple[Client, Client]:
        return (
            self.provider.client(f"play {number}, one"),
            self.provider.client(f"play {number}, two"),
        )

    async def begin(self) -> Play:
        """Start a play with new wallets."""
        self.plays += 1
        self.books.over |= self.books.orders
        self.books.orders.clear()
        self.play = Play(self._clients(self.plays))
        await self.provider.sign_in(self.provider.operator)
        await self.provider.sign_in(self.provider.worker)
        return self.play

    @property
    def now(self) -> int:
        return self.provider.clock()

    # Steps.

    async def ask(self, ask: Ask, foretell: Foretell, order: Shadow | None) -> Answer:
        """Send a request; its answer and its events are those that were foretold."""
        expected = foretell()
        answer = await self.provider.wire.ask(ask)
        await self.provider.settled()
        moved = self._take_news()
        recorded = tuple(kind for _, kind in moved)
        assert (*answer.outcome, answer.retryable, recorded) == (
            expected.status,
            expected.code,
            expected.retryable,
            expected.kinds,
        ), (ask, answer, expected, order)
        assert order is None or all(each is order for each, _ in moved), moved
        await self.compare(order for order, _ in moved)
        return answer

    async def balanced(self, what: Coroutine[Any, Any, Any] | None) -> Any:  # noqa: ANN401
        """Do something; then the books agree with the chain."""
        result = await what if what is not None else None
        self.balance()
        return result

    async def turn(self, *loops: Loop) -> None:
        """Give loops of the service a turn each, and see that they did what they are for."""
        for loop in loops:
            await self.provider.turn(loop)
            self.expect.bound = self.expect.bound or not self.chain.silent
            moved = self._take_news()
            if any(kind == "content_erased" for _, kind in moved):
                self._forget_memory()
            await self.compare(order for order, _ in moved)
            if not self.chain.silent and self.expect.bound:
                self._require_done(loop)
                self.play.moved = set() if loop == "payments" else self.play.moved

    async def restart(self) -> None:
        await self.provider.restart()
        self.expect.bound = not self.chain.silent
        self._forget_memory()
        self.play.leases.clear()
        assert self._take_news() == []
        await self.compare(self.play.orders)

    async def everything(self) -> None:
        """Let the service do all that is to do; then nothing may be left."""
        self.chain.silent = False
        rounds, news = 0, True
        while news or rounds < LOOKS:
            before = self.provider.read_up_to
            await self.turn(*LOOPS)
            rounds, news = rounds + 1, self.provider.read_up_to > before
            assert rounds < MAX_ROUNDS, "the loops come to no end"
        self._require_nothing_left()

    def _take_news(self) -> list[tuple[Shadow, str]]:
        """Take the new events in; return each order's kinds as they came, the log's left out."""
        taken = [(self.books.take(event), event["kind"]) for event in self.provider.news()]
        self.kinds.update(kind for _, kind in taken)
        return [(order, kind) for order, kind in taken if order is not None]

    # Comparisons.

    async def compare(self, orders: Iterable[Shadow]) -> None:
        """Compare orders with what is folded, with the views, and with every wire view."""
        for order in {o.order_id: o for o in orders}.values():
            await self._compare_inside(order)
            await self._compare_wire(order)

    async def _compare_inside(self, order: Shadow) -> None:
        placed = self.provider.ledger.read_order(order.order_id)
        folded = fold(each.signed for each in placed)
        assert folded is not None
        shown.require_same(folded, order)
        assert await self.provider.order(order.order_id) == folded
        row = view_of(order_row(folded, placed[-1].position))
        assert self.provider.row(order.order_id) == row
        amounts = (row.received_micros, row.refunded_micros, row.held_micros)
        assert amounts == (order.received, order.refunded, order.held)
        parts = (row.pending_micros, row.applied_micros, row.late_micros)
        assert row.received_micros == sum(parts)

    async def _compare_wire(self, order: Shadow) -> None:
        paths = [f"/ivxp/status/{order.order_id}", f"/ivxp/orders/{order.order_id}"]
        asks = [get(path + view) for path in paths for view in VIEWS]
        answers = await self.provider.wire.ask_all(asks)
        assert {answer.status for answer in answers} == {200}
        default, strict, rich = (answer.body for answer in answers[: len(VIEWS)])
        assert [a.body for a in answers[: len(VIEWS)]] == [a.body for a in answers[len(VIEWS) :]]
        shown.require_shown(default, shown.default(order, self.now))
        assert strict == shown.strict(order)
        shown.require_shown(rich, shown.rich(order, self.now))
        shown.require_dispute(rich, order)

    async def follow(self, order: Shadow) -> None:
        """Read the order's stream: its last word is that of the status answer."""
        placed = self.provider.ledger.read_order(order.order_id)
        kinds = [(p.signed.event.kind, p.position) for p in placed]
        newest = max(position for kind, position in kinds if kind in order.at)
        word, _ = shown.words(order)
        frames = await backlog(self.provider.url, order.order_id, word, newest)
        told = [f.data for f in frames if f.kind == "status_update"]
        last = (told[-1]["status"], told[-1]["ledger_status"])
        assert last == shown.words(order)
        both = get(f"/ivxp/status/{order.order_id}?protocol=1.1&view=strict")
        assert (await self.provider.wire.ask(both)).body == shown.rich_strict(order)

    # What the loops are for.

    def _require_done(self, loop: Loop) -> None:
        for order in self.play.orders:
            if loop == "claims":
                self._require_claims_judged(order)
            elif loop == "payments":
                self._require_chain_seen(order)
            elif loop == "push":
                self._require_pushed(order)
            elif loop == "windows":
                self._require_windows_closed(order)

    def _require_claims_judged(self, order: Shadow) -> None:
        for claim in order.claims:
            view = self.expect.view(claim.tx)
            assert view not in ("mined", "reverted"), (claim, order)

    def _require_chain_seen(self, order: Shadow) -> None:
        """Fail if an order counts what the chain does not show, or misses what is back."""
        for (tx, _), coin in order.coins.items():
            mined = self.chain.mined(tx)
            there = mined is not None and mined.block.hash == coin.block_hash
            if coin.bucket != ORPHANED:
                assert there, ("it counts what left the chain", tx, order)
            elif order.was_paid:
                assert self.expect.view(tx) != "mined", ("it is back", tx, order)

    def _require_pushed(self, order: Shadow) -> None:
        pushed = order.pushed.get(order.target or "")
        if order.push_to_come and not order.paused:
            assert pushed is not None, ("the first push follows at once", order)

    def _require_windows_closed(self, order: Shadow) -> None:
        accepting = order.accepting
        assert not accepting or self.now <= order.at["ready"] + ACCEPT_WITHIN_S * 1000, order
        waits = order.dispute_open and not (order.dispute_answered or order.answer_lapsed)
        assert not waits or self.now <= order.disputed_ms + ANSWER_WITHIN_S * 1000, order

    def balance(self) -> None:
        """Fail unless the books agree with the chain to the micro-unit.

        What the orders have received and what nobody has is what arrived, but for transfers that a
        reorganisation has touched since the service last looked.
        """
        arrived = {a.key: a.amount for c in self.play.clients for a in self._arrived(c)}
        counted = {
            key: coin.amount
            for order in self.play.orders
            for key, coin in order.coins.items()
            if coin.bucket != ORPHANED
        }
        gone = counted.keys() - arrived.keys()
        assert {tx for tx, _ in gone} <= self.play.moved, ("counted, but not there", gone)
        assert not counted.keys() & self.books.nobodys.keys()
        received = sum(order.received for order in self.play.orders)
        assert received == sum(counted.values())
        left = sum(amount for key, amount in arrived.items() if key not in counted)
        lost = sum(counted[key] for key in gone)
        assert received - lost + left == sum(arrived.values())
        for order in self.play.orders:
            assert order.held == order.received - order.refunded

    def _require_nothing_left(self) -> None:
        """Fail if a transfer of the play's clients stands nowhere without a reason."""
        counted = {k for o in self.play.orders for k, c in o.coins.items() if c.bucket != ORPHANED}
        seen = {a.key for c in self.play.clients for a in self._arrived(c)}
        for key in seen - counted - self.books.nobodys.keys():
            waits = self._may_wait(key[0])
            assert waits, ("nobody has it, and nothing is waited for", key, self.play.orders)

    def _arrived(self, client: Wallet) -> list[Any]:
        txs = joined(self.play.txs, self.play.pool)
        return [a for tx in txs for a in self.expect.arrived(tx.hash, client.address)]

    def _may_wait(self, tx: str) -> bool:
        mined = self.chain.mined(tx)
        assert mined is not None
        if mined.block.number > self.chain.safe.number:
            return True
        payers = {"0x" + log.topics[1][-40:] for log in mined.tx.logs}
        until = (mined.block.time + QUOTE_SKEW_S) * 1000
        for order in self.play.orders:
            if any(claim.tx == tx for claim in order.claims):
                return True
            is_open = order.status == "quoted" or (order.paused and order.status != "refunded")
            if order.client in payers and is_open and order.created_ms <= until:
                return True
        return False

    async def finish(self) -> None:
        """Let all come back that was lost, and all time run out: then nothing is open."""
        play, provider = self.play, self.provider
        self.chain.silent = False
        lost, play.pool = play.pool, []
        provider.mine(*lost, blocks=CONFIRMATIONS)
        provider.clock.pass_ms(A_DAY_AND_MORE_MS)
        provider.mine(blocks=2 * EPOCH + 1)
        await self.everything()
        while any(order.push_to_come and not order.paused for order in play.orders):
            provider.clock.pass_ms(max(PUSH_DELAYS_S) * 1000)
            await self.turn("push")
        # What is kept for a day after the last event goes now: nothing of this play is left to do.
        provider.clock.pass_ms(A_DAY_AND_MORE_MS)
        await self.turn("retention")
        for order in play.orders:
            assert order.dispute_open or not order.content_held, order
            assert order.status != "quoted", order
            assert not order.claims, order
            assert not order.accepting, order
            assert not order.total(ORPHANED), order

    # Keys.

    async def send(self, sent: Sent) -> Answer:
        """Send a request, again or for the first time."""
        if sent.key is None:
            answer = await self.ask(sent.ask, sent.foretell, sent.order)
            self._forget_after(sent.act, answer)
            return answer
        return await self._ask_keyed(sent.ask, sent.key, sent.foretell, sent.order)

    async def _ask_keyed(
        self, ask: Ask, key: tuple[str, ...], foretell: Foretell, order: Shadow | None
    ) -> Answer:
        """Send a request under a key: a repeat gets the first answer, another one is refused."""
        keyed = ask.keyed(key[-1])
        what = ask.path.encode() + ask.body
        known = self.play.keys.get(key)
        if known is None:
            foretold = foretell()
            answer = await self.ask(keyed, lambda: foretold, order)
            self._forget_after(key[0], answer)
            if answer.status == 200:
                in_memory = key[0] in IN_MEMORY or foretold.stands
                self.play.keys[key] = Kept(what, answer.body, in_memory)
            return answer
        if known.what != what:
            reused = Expected(422, "IDEMPOTENCY_KEY_REUSED")
            return await self.ask(keyed, lambda: reused, order)
        answer = await self.ask(keyed, Expected, order)
        assert answer.headers.get("idempotency-replayed") == "true"
        assert _without_proof(answer.body) == _without_proof(known.body)
        return answer

    def _forget_after(self, act: str, answer: Answer) -> None:
        """Forget what is in memory only: words that were erased might stand in it."""
        if act == "erase" and answer.status == 200:
            self._forget_memory()

    def _forget_memory(self) -> None:
        self.play.keys = {k: v for k, v in self.play.keys.items() if not v.in_memory}


IN_MEMORY: Final = frozenset({"start", "retry", "fail", "refund"})
"""Acts whose keyed answers no ledger keeps."""


def _without_proof(body: Json) -> Json:
    return {name: value for name, value in body.items() if name != "ledger"}
