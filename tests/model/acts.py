"""Everything that may be done with orders: by clients, by the provider's people, by the chain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from typing import Any, ClassVar, Final, TypeVar

import orjson

from ledger.matching import nonce_of
from tests.model.expect import MAX_AGE_MS, STALE, Expected, Said
from tests.model.node import Tx
from tests.model.people import Client, NoticeText, ReceiptShape, Route
from tests.model.provider import EPOCH, LEASE_S, PRICES
from tests.model.shadow import Shadow
from tests.model.wire import Answer, get
from tests.model.world import LOOPS, Foretell, Play, Sent, World

T = TypeVar("T")

CONTENTS: Final = (b"the deliverable", b"other bytes")
STATEMENT: Final = "It is not what was promised."
MAX_ORDERS: Final = 4
STEP_MS: Final = 1000
ROUTES: Final[tuple[Route, ...]] = ("deliver", "payment", "delivery")
FORMS: Final[tuple[NoticeText, ...]] = ("plain", "nonce", "identity")
SHAPES: Final[tuple[ReceiptShape, ...]] = ("documents", "sdk", "oldest")
NONCES: Final = ("nonce-of-16-letters", "another-nonce-of-16")
SECONDS: Final = (5, 61, LEASE_S + 1, 301, 701, 1500)
KEYS: Final = (None, None, None, "key-1", "key-2")


class Picks:
    """Choices that were drawn for one step, taken one after another."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self._left = list(numbers)

    def next(self) -> int:
        return self._left.pop(0)

    def of(self, items: Sequence[T]) -> T:
        return items[self.next() % len(items)]

    def one_in(self, many: int) -> bool:
        return self.next() % many == many - 1


class Acts:
    """What can be done in a play; each act foretells what comes of it.

    `focus` is the order that the act has to be about; without one, it picks its own.
    """

    here: World
    counts: ClassVar[Counter[str]]
    failures: ClassVar[list[Exception]]

    def __init__(self) -> None:
        super().__init__()
        self.focus: Shadow | None = None
        self.fine = True

    @property
    def play(self) -> Play:
        return self.here.play

    def do(self, what: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - its result
        self.fine = False
        try:
            result = self.here.do(what)
        except Exception as error:
            self.failures.append(error)
            raise
        self.fine = True
        return result

    def take(self, name: str, what: Coroutine[Any, Any, Any] | None = None) -> Any:  # noqa: ANN401
        """Take a step; a second passes with each."""
        self.counts[name] += 1
        result = self.do(self.here.balanced(what))
        self.here.provider.clock.pass_ms(STEP_MS)
        return result

    def send(self, sent: Sent, *, key: str | None = None, party: str = "") -> Answer:
        """Send a request, and keep it: its answer may be lost, and it is sent again."""
        if key is not None:
            whose = sent.order.order_id if sent.order is not None else ""
            sent = replace(sent, key=(sent.act, whose, party, key))
        self.play.sent.append(sent)
        return self._sent(sent, sent.act)

    def _sent(self, sent: Sent, name: str) -> Answer:
        answer: Answer = self.take(name, self.here.send(sent))
        self._note_lease(sent, answer)
        self.play.orders = list(self.here.books.orders.values())
        return answer

    def owner(self, order: Shadow, *, other: bool = False) -> Client:
        one, two = self.play.clients
        mine, others = (one, two) if order.client == one.address else (two, one)
        return others if other else mine

    def order(self, pick: Picks) -> Shadow:
        """Return the order that the step is about."""
        found = pick.of(self.play.orders)
        return self.focus or found

    # What comes next by itself.

    def go_on(self, pick: Picks) -> None:
        """Do with an order what its parties would do next, or what they might."""
        self.focus = order = pick.of(self.play.orders)
        try:
            if order.paused:
                again = (self.mine, self.turn_of_payments, self.pay_price)
                pick.of((*again, self.hand_in, self.start))(pick)
            elif order.status in ("quoted", "expired"):
                self.pay_or_tell(pick)
            else:
                pick.of(self._nexts(order))(pick)
        finally:
            self.focus = None

    def _nexts(self, order: Shadow) -> Sequence[Callable[[Picks], None]]:
        match order.status:
            case "paid":
                return self.start, self.hand_in, self.pay_or_tell
            case "processing":
                return self.hand_in, self.hand_in, self.hand_in, self.fail
            case "ready" if order.push_to_come:
                return self.turn_of_push, self.turn_of_push, self.download, self.dispute
            case "ready":
                return self.download, self.turn_of_push, self.receipt, self.dispute
            case "posted" | "delivered":
                return self.receipt, self.receipt, self.dispute, self.download
            case "delivery_failed" if order.digest is None:
                return self.start, self.hand_in, self.dispute, self.give_back
            case "delivery_failed":
                return self.download, self.receipt, self.dispute
            case "disputed":
                return self.answer, self.withdraw, self.ruling, self.receipt, self.give_back
            case _ if len(self.play.orders) < MAX_ORDERS:
                return self.quote, self.quote, self.give_back, self.dispute, self.download
            case _:
                return self.later, self.turn_of_payments, self.give_back, self.dispute

    def pay_or_tell(self, pick: Picks) -> None:
        """Give notice of a payment that fits, or make one."""
        order = self.order(pick)
        free = [tx for tx in self.play.txs if self._fits(order, tx)]
        sent = [tx for tx in self.play.pool if tx.sender == order.client and not order.claims]
        if free and pick.one_in(4):
            self.turn_of_scan(pick)
        elif free or sent:
            self.tell_of(order, (free or sent)[-1], pick)
        else:
            self.pay_price(pick)

    def _fits(self, order: Shadow, tx: Tx) -> bool:
        arrived = self.here.expect.arrived(tx.hash, order.client)
        holder = self.here.books.holder
        mine = [a for a in arrived if holder.get(a.key, order.order_id) == order.order_id]
        return sum(a.amount for a in mine) >= order.due

    def pay_price(self, pick: Picks) -> None:
        order, provider = self.order(pick), self.here.provider
        tx = provider.transfer(self.owner(order), max(1, order.due))
        self.play.txs.append(tx)
        blocks = pick.of((2, 2, 2, 1, 0))
        if blocks:
            provider.mine(tx, blocks=blocks)
        else:
            self.play.pool.append(tx)
        self.take("pay the price")

    def turn_of_push(self, _pick: Picks) -> None:
        self.take("turn of push", self.here.turn("push"))

    def turn_of_payments(self, _pick: Picks) -> None:
        self.take("turn of payments", self.here.turn("payments"))

    def turn_of_scan(self, _pick: Picks) -> None:
        self.take("turn of scan", self.here.turn("scan"))

    # Clients.

    def quote(self, pick: Picks) -> None:
        client, now = pick.of(self.play.clients), self.here.now
        ask = client.quote(pick.of(tuple(PRICES)), contact=self._endpoint(pick.next()))

        def foretell() -> Expected:
            return STALE if self.here.now - now > MAX_AGE_MS else Expected(kinds=("quoted",))

        self.send(Sent("quote", ask, foretell, None), key=pick.of(KEYS), party=client.address)

    def _endpoint(self, pick: int) -> str | None:
        """Return one that takes pushes, one that refuses them, one that is blocked, or none."""
        url = self.here.provider.receiver.url
        return (None, f"{url}/200", f"{url}/200", f"{url}/500", "ftp://nowhere.example/")[pick % 5]

    def pay(self, pick: Picks) -> None:
        order, provider = self.order(pick), self.here.provider
        payer = self.owner(order, other=pick.one_in(10))
        amounts = (order.price, order.price, order.due, order.price // 2, order.price + 7, 1)
        micros = max(1, pick.of(amounts))
        match pick.next() % 8:
            case 0:
                tx = provider.transfer(payer, micros // 2 or 1, micros - micros // 2 or 1)
            case 1:
                tx = provider.authorized(payer, micros, nonce_of(order.order_id))
            case 2:
                tx = provider.reverted(payer)
            case _:
                tx = provider.transfer(payer, micros)
        self.play.txs.append(tx)
        if pick.one_in(4):
            self.play.pool.append(tx)
        else:
            provider.mine(tx, blocks=1 + pick.next() % 2)
        self.take("pay")

    def notice(self, pick: Picks) -> None:
        order = self.order(pick)
        client = self.owner(order, other=pick.one_in(12))
        self.tell_of(order, self._payment_of(order, pick), pick, client=client)

    def tell_of(
        self, order: Shadow, payment: Tx, pick: Picks, *, client: Client | None = None
    ) -> None:
        client, tx = client or self.owner(order), payment.hash
        route, form = pick.of(ROUTES), pick.of(FORMS)
        nonce = pick.of(NONCES) if form == "nonce" else None
        text = client.notice_text(order.order_id, tx, form=form, nonce=nonce)
        endpoint = self._endpoint(pick.next())
        ask = client.notice_with(text, order.order_id, tx, route=route, endpoint=endpoint)
        said = Said(client.address, tx, text, self.here.now, route, nonce)
        key = KEYS[len(self.play.sent) % len(KEYS)]
        self.send(Sent(route, ask, self._foretold(order, said), order, said=said), key=key)

    def _payment_of(self, order: Shadow, pick: Picks) -> Tx:
        """Return a transaction of the order's client more often than any."""
        own = [tx for tx in self.play.txs if tx.sender == order.client]
        which = pick.next()
        found = own if own and which % 4 else self.play.txs
        return found[which // 4 % len(found)]

    def _foretold(self, order: Shadow, said: Said) -> Foretell:
        return lambda: self.here.expect.notice(order, said, self.here.now)

    def same_notice_elsewhere(self, pick: Picks) -> None:
        """Send the same signed text to another endpoint."""
        sent = pick.of([sent for sent in self.play.sent if sent.said])
        order, before = sent.order, sent.said
        assert order is not None
        assert before is not None
        said = replace(before, route=pick.of(ROUTES))
        signer = next(c for c in self.play.clients if c.address == said.signer)
        ask = signer.notice_with(said.text, order.order_id, said.tx, route=said.route)
        self.send(Sent(said.route, ask, self._foretold(order, said), order, said=said))

    def again(self, pick: Picks) -> None:
        """Send exactly what was sent before, as who never got the answer does."""
        self._sent(pick.of(self.play.sent), "again")

    def receipt(self, pick: Picks) -> None:
        order, now, shape = self.order(pick), self.here.now, pick.of(SHAPES)
        client, named = self.owner(order, other=pick.one_in(12)), CONTENTS[pick.one_in(3)]
        digest = sha256(named).hexdigest() if shape == "documents" else None
        rating, alias = pick.next() % 6 or None, pick.one_in(4)
        ask = client.receipt(order.order_id, named, shape=shape, rating=rating, alias=alias)
        act = "confirm by alias" if alias else "confirm"

        def foretell() -> Expected:
            signer = client.address
            return self.here.expect.receipt(order, signer, digest, now, self.here.now)

        self.send(Sent(act, ask, foretell, order), key=pick.of(KEYS))

    def dispute(self, pick: Picks) -> None:
        order, now = self.order(pick), self.here.now
        client = self.owner(order, other=pick.one_in(12))
        why, said = pick.of(("not_delivered", "wrong_content", "other")), pick.of((None, STATEMENT))
        ask = client.dispute(order.order_id, reason=why, nested=pick.one_in(2), said=said)
        text = client.dispute_text(order.order_id, reason=why, said=said)

        def foretell() -> Expected:
            signer = client.address
            return self.here.expect.dispute(order, signer, text, now, self.here.now)

        self.send(Sent("dispute", ask, foretell, order), key=pick.of(KEYS))

    def withdraw(self, pick: Picks) -> None:
        order, now = self.order(pick), self.here.now
        client = self.owner(order, other=pick.one_in(12))

        text = client.withdrawal_text(order.order_id)

        def foretell() -> Expected:
            return self.here.expect.withdrawal(order, client.address, text, now, self.here.now)

        ask = client.withdrawal(order.order_id)
        self.send(Sent("withdraw", ask, foretell, order), key=pick.of(KEYS))

    def ruling(self, pick: Picks) -> None:
        order, now, arbiter = self.order(pick), self.here.now, self.here.provider.arbiter
        outcomes = (("provider", 0), ("client", order.received), ("split", order.received // 2))
        said = pick.of((*outcomes, ("split", order.received)))

        text = arbiter.ruling_text(order.order_id, *said)

        def foretell() -> Expected:
            signed = (text, *said)
            return self.here.expect.ruling(order, arbiter.address, signed, now, self.here.now)

        ask = arbiter.ruling(order.order_id, *said)
        self.send(Sent("ruling", ask, foretell, order), key=pick.of(KEYS))

    def download(self, pick: Picks) -> None:
        order = self.order(pick)
        paths = ("/ivxp/download/{}", "/ivxp/orders/{}/deliverable")
        ask = get(pick.of(paths).format(order.order_id))
        answer = self.send(Sent("download", ask, partial(self.here.expect.download, order), order))
        if answer.status == 200:
            content = str(answer.body["content"]).encode()
            assert answer.body["content_hash"] == order.digest == sha256(content).hexdigest()

    # The provider's people.

    def start(self, pick: Picks) -> None:
        order, staff = self.order(pick), self.here.provider.worker
        worker, retry = pick.of("ab"), pick.one_in(4)
        ask = (staff.retry if retry else staff.start)(order.order_id, worker)

        def foretell() -> Expected:
            taken = self._taken(order, worker)
            return self.here.expect.start(order, retry=retry, taken=taken)

        act = "retry" if retry else "start"
        self.send(Sent(act, ask, foretell, order), key=pick.of(KEYS), party=staff.address)

    def _taken(self, order: Shadow, worker: str) -> bool:
        held = self.play.leases.get(order.order_id)
        return held is not None and held[0] != worker and self.here.now < held[1]

    def _note_lease(self, sent: Sent, answer: Answer) -> None:
        if answer.status != 200 or "idempotency-replayed" in answer.headers or sent.order is None:
            return
        if sent.act in ("start", "retry"):
            worker = orjson.loads(sent.ask.body)["worker"]
            until = self.here.now - STEP_MS + LEASE_S * 1000
            self.play.leases[sent.order.order_id] = (worker, until)
        elif sent.act in ("fail", "hand in"):
            self.play.leases.pop(sent.order.order_id, None)

    def hand_in(self, pick: Picks) -> None:
        order, staff = self.order(pick), self.here.provider.worker
        given = CONTENTS[pick.one_in(8)]
        digest = sha256(given).hexdigest()
        foretell = partial(self.here.expect.hand_in, order, digest)
        self.send(Sent("hand in", staff.hand_in(order.order_id, given), foretell, order))

    def fail(self, pick: Picks) -> None:
        order, staff = self.order(pick), self.here.provider.worker
        worker = pick.of("ab")
        ask = staff.fail(order.order_id, worker)

        def foretell() -> Expected:
            return self.here.expect.fail(order, taken=self._taken(order, worker))

        self.send(Sent("fail", ask, foretell, order), key=pick.of(KEYS), party=staff.address)

    def answer(self, pick: Picks) -> None:
        order, staff = self.order(pick), self.here.provider.operator
        ask, foretell = staff.answer(order.order_id), partial(self.here.expect.answer, order)
        self.send(Sent("answer", ask, foretell, order), key=pick.of(KEYS), party=staff.address)

    def erase(self, pick: Picks) -> None:
        order, staff = self.order(pick), self.here.provider.operator
        fields = pick.of(((), ("deliverable",), ("contact_endpoint",), ("description",)))
        ask = staff.erase(order.order_id, *fields)
        foretell = partial(self.here.expect.erase, order, fields)
        self.send(Sent("erase", ask, foretell, order), key=pick.of(KEYS), party=staff.address)

    def give_back(self, pick: Picks) -> None:
        """Send money back; the service finds it by itself or is told of it."""
        order, provider = self.order(pick), self.here.provider
        micros = max(1, pick.of((order.held, order.held, order.held // 2, order.due, 1)))
        tx = provider.transfer(provider.treasury, micros, to=self.owner(order))
        self.play.refunds.append(tx)
        provider.mine(tx, blocks=pick.of((1, EPOCH + 1)))
        self.take("give back")

    def refund(self, pick: Picks) -> None:
        order, staff = self.order(pick), self.here.provider.operator
        given = pick.of(self.play.refunds).hash
        ask = staff.refund(order.order_id, given)
        foretell = partial(self.here.expect.refund, order, given)
        self.send(Sent("refund", ask, foretell, order), key=pick.of(KEYS), party=staff.address)

    # The chain, the clock, and the service's own loops.

    def mine(self, pick: Picks) -> None:
        txs: list[Tx] = []
        if not pick.one_in(3):
            txs, self.play.pool = self.play.pool, []
        self.here.provider.mine(*txs, blocks=pick.of((1, 2, 5)))
        self.take("mine")

    def reorg(self, pick: Picks) -> None:
        """Replace blocks; each of their transactions moves, or goes back to the pool."""
        chain, depth = self.here.chain, 1 + pick.next() % EPOCH
        txs = [tx for block in chain.blocks[-depth:] for tx in block.txs]
        mask, place = pick.next(), pick.next() % depth
        kept = [(tx, place) for n, tx in enumerate(txs) if mask >> (n % 3) & 1]
        self.play.moved |= {tx.hash for tx in txs}
        self.play.pool += chain.reorg(depth, kept)
        self.take("reorg")

    def silence(self, pick: Picks) -> None:
        """Let the chain fall silent, or speak again."""
        self.here.chain.silent = not self.here.chain.silent and pick.one_in(2)
        self.take("silence")

    def later(self, pick: Picks) -> None:
        self.here.provider.clock.pass_ms(pick.of(SECONDS) * 1000)
        self.take("later", self.here.compare([self.order(pick)]))

    def turn(self, pick: Picks) -> None:
        loop = pick.of(LOOPS)
        self.take(f"turn of {loop}", self.here.turn(loop))

    def all_turns(self, pick: Picks) -> None:
        """Let every loop take a turn, or rarely so many that nothing is left to do."""
        what = self.here.everything() if pick.one_in(6) else self.here.turn(*LOOPS)
        self.take("all turns", what)

    def look_or_restart(self, pick: Picks) -> None:
        if pick.one_in(6):
            self.take("restart", self.here.restart())
        else:
            self.take("follow", self.here.follow(self.order(pick)))
