"""Part 2: the chain's RPC is cut right after a payment. Unknown is not failed."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Final

from scripts.buyer import Answer, Buyer
from scripts.demo_order import PRICE_USDC, SERVICE, WORDS
from scripts.demo_proof import Proven, check_answer
from scripts.demo_say import checked, expect, heading, step
from scripts.demo_stage import NETWORK, Stage, poll

TEST: Final = "tests/contract/test_payments.py -k silent_chain"
REPEATS: Final = 3
CLAIM: Final = "payment_claimed"


async def show_outage(stage: Stage) -> None:
    """Cut the RPC after a payment, repeat the notice, and bring the RPC back."""
    heading("2. The chain falls silent right after a payment", "outage", TEST)
    async with stage.buyer() as buyer:
        order_id = str((await buyer.request(SERVICE, WORDS)).require(200)["order_id"])
        tx_hash = stage.pay(buyer, PRICE_USDC)
        notice = buyer.notice(order_id, tx_hash, NETWORK)
        stage.proxy.cut()
        try:
            step("paid, then RPC cut", "the client has paid, and nobody can look it up")
            kept = await _notify(stage, buyer, notice, order_id)
            await _repeat(stage, buyer, notice, kept)
        finally:
            stage.proxy.restore()
        await _paid_without_return(stage, buyer, order_id)


async def _notify(stage: Stage, buyer: Buyer, notice: dict[str, object], order_id: str) -> Proven:
    answer = await buyer.deliver(notice)
    _expect_pending(answer)
    step("POST /ivxp/deliver", f"503 pending: {answer.body['message']}")
    kept = check_answer(answer, stage.pinned(), order_id)
    expect(kept.event.event.kind == CLAIM, "the claim is in the ledger")
    checked(f"the claim is kept: signed event {CLAIM!r} at position {kept.position}, proven")
    return kept


async def _repeat(stage: Stage, buyer: Buyer, notice: dict[str, object], kept: Proven) -> None:
    order_id = kept.event.stream.removeprefix("order/")
    for _ in range(REPEATS):
        answer = await buyer.deliver(notice)
        _expect_pending(answer)
        again = check_answer(answer, stage.pinned(), order_id)
        expect(again.event.leaf == kept.event.leaf, "a repeat gets the same event")
        expect(again.tree_size == kept.tree_size, "a repeat records nothing")
    step(f"the same, {REPEATS} times more", f"503 pending, still position {kept.position}")
    status = (await buyer.get(f"/ivxp/status/{order_id}")).require(200)
    payment = status.get("payment")
    expect(isinstance(payment, dict) and payment["outcome"] == "pending", "status says pending")
    step("GET /ivxp/status", f"{status['status']}, payment pending")


def _expect_pending(answer: Answer) -> None:
    body = answer.require(HTTPStatus.SERVICE_UNAVAILABLE)
    details = body.get("details")
    expect(isinstance(details, dict) and details.get("outcome") == "pending", "unknown is pending")
    expect(body.get("retryable") is True, "a pending payment may be asked for again")


async def _paid_without_return(stage: Stage, buyer: Buyer, order_id: str) -> None:
    since = time.monotonic()
    path = f"/ivxp/status/{order_id}"
    await poll(
        lambda: buyer.get(path), lambda a: a.require(200)["status"] == "delivered", "the payment"
    )
    step("RPC back, client away", f"paid and delivered after {time.monotonic() - since:.1f} s")
    kinds = [event.event.kind for _, event in stage.entries_of(order_id)]
    expect(kinds.count("paid") == 1, "the transfer paid exactly once")
    expect(kinds.count(CLAIM) == 1, "four notices left one claim")
    checked(f"one claim, one payment, nothing repeated: {' > '.join(kinds)}")
