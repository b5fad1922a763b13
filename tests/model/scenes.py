"""Orders brought to where a test needs them, by the ways that lead there in real life."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from tests.model.node import Tx
from tests.model.people import Client
from tests.model.provider import (
    ACCEPT_WITHIN_S,
    DELIVER_WITHIN_S,
    EPOCH,
    PAY_WITHIN_S,
    PRICES,
    Provider,
)
from tests.model.wire import Answer, Ask

CONTENT: Final = b"the deliverable"
OTHER_CONTENT: Final = b"something else"
PRICE: Final = PRICES["work"]
_numbers = count(1)


@dataclass
class Scene:
    """One order with its client and what was paid for it."""

    provider: Provider
    client: Client
    ask: Ask
    order_id: str
    paid: Tx | None = None
    """The transaction that the order knows of."""
    events: int = field(default=0)

    async def send(self, ask: Ask) -> Answer:
        answer = await self.provider.wire.ask(ask)
        await self.provider.settled()
        return answer

    async def done(self, ask: Ask) -> dict[str, Any]:
        """Send what has to work."""
        answer = await self.send(ask)
        assert answer.status == 200, answer
        return answer.body

    def payment(self, micros: int = PRICE) -> Tx:
        """Pay, so deep that it counts."""
        tx = self.provider.transfer(self.client, micros)
        self.provider.mine(tx, blocks=2)
        return tx

    async def notify(self, tx: Tx, **more: Any) -> Answer:  # noqa: ANN401 - passed on
        return await self.send(self.client.notice(self.order_id, tx.hash, **more))

    async def history(self) -> list[str]:
        placed = self.provider.ledger.read_order(self.order_id)
        return [each.signed.event.kind for each in placed]


async def scene(provider: Provider) -> Scene:
    """Return a fresh quote of a client who has no other."""
    client = provider.client(f"scene {next(_numbers)}")
    if provider.operator.token is None:
        await provider.sign_in(provider.operator)
        await provider.sign_in(provider.worker)
    ask = client.quote("work").keyed("the-quote")
    answer = await provider.wire.ask(ask)
    assert answer.status == 200, answer
    await provider.settled()
    return Scene(provider, client, ask, answer.body["order_id"])


def pass_seconds(s: Scene, seconds: int) -> None:
    """Let time pass on every clock, the chain's included."""
    s.provider.clock.pass_ms(seconds * 1000)
    s.provider.mine(blocks=2)


async def scanned(s: Scene) -> None:
    """Read the chain twice: the second time, no block is news."""
    await s.provider.turn("scan")
    await s.provider.turn("scan")


async def quoted(s: Scene) -> None:
    """Do nothing: a scene begins with its quote."""


async def claimed(s: Scene) -> None:
    s.paid = s.provider.transfer(s.client, PRICE)
    assert (await s.notify(s.paid)).status == 402


async def part_paid(s: Scene) -> None:
    s.paid = s.payment(PRICE // 2)
    assert (await s.notify(s.paid)).status == 402


async def overdue(s: Scene) -> None:
    pass_seconds(s, PAY_WITHIN_S + 1)


async def expired(s: Scene) -> None:
    await overdue(s)
    await scanned(s)


async def late(s: Scene) -> None:
    await expired(s)
    s.paid = s.payment()
    await scanned(s)


async def paid(s: Scene) -> None:
    s.paid = s.payment()
    await s.provider.turn("scan")


async def paid_past_due(s: Scene) -> None:
    await paid(s)
    pass_seconds(s, DELIVER_WITHIN_S + 1)


async def orphaned(s: Scene) -> None:
    """Take the payment off the chain, and let the service see it."""
    s.provider.chain.reorg(2)
    await s.provider.turn("payments")


async def paid_orphaned(s: Scene) -> None:
    await paid(s)
    await orphaned(s)


async def accepted(s: Scene) -> None:
    s.paid = s.payment()
    assert (await s.notify(s.paid)).status == 200


async def begun(s: Scene) -> None:
    await paid(s)
    await s.done(s.provider.worker.start(s.order_id))


async def accepted_past_due(s: Scene) -> None:
    await accepted(s)
    pass_seconds(s, DELIVER_WITHIN_S + 1)


async def accepted_orphaned(s: Scene) -> None:
    await accepted(s)
    await orphaned(s)


async def ready(s: Scene) -> None:
    await accepted(s)
    await s.done(s.provider.worker.hand_in(s.order_id, CONTENT))


async def ready_orphaned(s: Scene) -> None:
    await ready(s)
    await orphaned(s)


async def ready_lapsed(s: Scene) -> None:
    await ready(s)
    pass_seconds(s, ACCEPT_WITHIN_S + 1)
    await s.provider.turn("windows")


async def ready_for_push(s: Scene, answer: int = 200) -> None:
    s.paid = s.payment()
    endpoint = f"{s.provider.receiver.url}/{answer}"
    assert (await s.notify(s.paid, endpoint=endpoint)).status == 200
    await s.done(s.provider.worker.hand_in(s.order_id, CONTENT))


async def ready_erased(s: Scene) -> None:
    await ready(s)
    await s.done(s.provider.operator.erase(s.order_id, "deliverable"))


async def posted(s: Scene) -> None:
    await ready_for_push(s)
    await s.provider.turn("push")


async def push_failed(s: Scene) -> None:
    await ready_for_push(s, answer=500)
    await s.provider.turn("push")
    pass_seconds(s, 61)
    await s.provider.turn("push")


async def delivered(s: Scene) -> None:
    await ready(s)
    await s.done(Ask("GET", f"/ivxp/download/{s.order_id}"))


async def work_failed(s: Scene) -> None:
    await accepted(s)
    await s.done(s.provider.worker.fail(s.order_id))


async def confirmed(s: Scene) -> None:
    await ready(s)
    await s.done(s.client.receipt(s.order_id, CONTENT))


async def disputed(s: Scene) -> None:
    await ready(s)
    await s.done(s.client.dispute(s.order_id))


async def answered(s: Scene) -> None:
    await disputed(s)
    await s.done(s.provider.operator.answer(s.order_id))


async def not_delivered(s: Scene) -> None:
    await accepted_past_due(s)
    await s.done(s.client.dispute(s.order_id))


async def failed_and_disputed(s: Scene) -> None:
    await work_failed(s)
    await s.done(s.client.dispute(s.order_id))


async def given_back(s: Scene, micros: int = PRICE) -> Tx:
    """Return money that went back to the client, in a safe block."""
    tx = s.provider.transfer(s.provider.treasury, micros, to=s.client)
    s.provider.mine(tx, blocks=EPOCH + 1)
    return tx


async def refund(s: Scene) -> None:
    tx = await given_back(s)
    await s.done(s.provider.operator.refund(s.order_id, tx.hash))


async def refunded(s: Scene) -> None:
    await accepted(s)
    await refund(s)


async def refunded_unasked(s: Scene) -> None:
    await paid(s)
    await refund(s)


async def refunded_ready(s: Scene) -> None:
    await ready(s)
    await refund(s)


SCENES: Final[dict[str, Callable[[Scene], Awaitable[None]]]] = {
    "quoted": quoted,
    "quoted, claim": claimed,
    "quoted, part paid": part_paid,
    "quoted, overdue": overdue,
    "expired": expired,
    "expired, late money": late,
    "paid": paid,
    "paid, past due": paid_past_due,
    "paid, orphaned": paid_orphaned,
    "processing": accepted,
    "processing, no notice": begun,
    "processing, past due": accepted_past_due,
    "processing, orphaned": accepted_orphaned,
    "ready": ready,
    "ready, lapsed": ready_lapsed,
    "ready, push to come": ready_for_push,
    "ready, orphaned": ready_orphaned,
    "ready, erased": ready_erased,
    "posted": posted,
    "delivered": delivered,
    "failed, content": push_failed,
    "failed, nothing": work_failed,
    "confirmed": confirmed,
    "disputed": disputed,
    "disputed, answered": answered,
    "disputed, nothing": not_delivered,
    "disputed, failed": failed_and_disputed,
    "refunded": refunded,
    "refunded, no notice": refunded_unasked,
    "refunded, content": refunded_ready,
}
