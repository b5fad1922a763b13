"""Part 1: one order over HTTP, by a client that believes nothing it cannot check."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from scripts.buyer import Answer, Buyer
from scripts.demo_proof import Pinned, Proven, check_answer
from scripts.demo_say import DemoFailed, checked, expect, heading, short, step
from scripts.demo_stage import NETWORK, Stage, poll

TEST: Final = "tests/end_to_end/test_order.py"
WORDS: Final = "The quick brown fox jumps over the lazy dog."
SERVICE: Final = "summary_card"
PRICE_USDC: Final = 0.5
RATING: Final = 5


@dataclass(slots=True)
class Played:
    """An order as its client remembers it: the id and what each answer proved."""

    order_id: str
    tx_hash: str = ""
    content: str = ""
    proven: list[Proven] = field(default_factory=list)


async def show_order(stage: Stage) -> Played:
    """Play one order from the catalog to the signed receipt."""
    heading("1. One order over HTTP, as a client sees it", "order", TEST)
    pinned = stage.pinned()
    async with stage.buyer() as buyer:
        await _look_at_catalog(buyer, pinned)
        played = await _quote(buyer, pinned)
        await _pay_and_notify(stage, buyer, pinned, played)
        await _collect(buyer, played)
        await _confirm(buyer, pinned, played)
    return played


async def _look_at_catalog(buyer: Buyer, pinned: Pinned) -> None:
    catalog = (await buyer.get("/ivxp/catalog")).require(200)
    services = catalog["services"]
    count = len(services) if isinstance(services, list) else 0
    step("GET /ivxp/catalog", f"{count} services of {catalog['provider']!r}")
    expect(catalog["wallet_address"] == pinned.wallet, "the catalog names the provider's wallet")
    checked(f"the wallet is the one the operator published: {short(pinned.wallet)}")


async def _quote(buyer: Buyer, pinned: Pinned) -> Played:
    answer = await buyer.request(SERVICE, WORDS)
    body = answer.require(200)
    quote = body["quote"]
    if not isinstance(quote, dict):
        raise DemoFailed("a quote names its price")
    address = short(str(quote["payment_address"]))
    step("POST /ivxp/request", f"200 {quote['price_usdc']} USDC for {SERVICE!r}, to {address}")
    played = Played(str(body["order_id"]))
    _check(answer, pinned, played)
    return played


async def _pay_and_notify(stage: Stage, buyer: Buyer, pinned: Pinned, played: Played) -> None:
    played.tx_hash = stage.pay(buyer, PRICE_USDC)
    step("USDC transfer on chain", f"tx {short(played.tx_hash)} in block {stage.chain.head()}")
    notice = buyer.notice(played.order_id, played.tx_hash, NETWORK)
    answer = await buyer.deliver(notice)
    step("POST /ivxp/deliver", f"{answer.status} {answer.require(200)['status']}: a signed notice")
    _check(answer, pinned, played)


async def _collect(buyer: Buyer, played: Played) -> None:
    path = f"/ivxp/status/{played.order_id}"
    answer = await poll(lambda: buyer.get(path), _is_delivered, "the deliverable")
    step("GET /ivxp/status", str(answer.body["status"]))
    body = (await buyer.get(f"/ivxp/download/{played.order_id}")).require(200)
    played.content = str(body["content"])
    step("GET /ivxp/download", f"{len(played.content)} characters of {body['content_type']}")
    digest = sha256(played.content.encode()).hexdigest()
    expect(digest == body["content_hash"], "the downloaded bytes have the announced hash")
    checked(f"SHA-256 of the bytes is the announced {short(digest)}")


def _is_delivered(answer: Answer) -> bool:
    return answer.require(200)["status"] == "delivered"


async def _confirm(buyer: Buyer, pinned: Pinned, played: Played) -> None:
    answer = await buyer.confirm(played.order_id, played.content, RATING)
    step("POST .../confirm", f"{answer.status} {answer.require(200)['status']}: a signed receipt")
    _check(answer, pinned, played)


def _check(answer: Answer, pinned: Pinned, played: Played) -> None:
    proven = check_answer(answer, pinned, played.order_id)
    played.proven.append(proven)
    kind = proven.event.event.kind
    checked(
        f"signed event {kind!r} stands at position {proven.position} of the signed tree"
        f" of {proven.tree_size}"
    )
