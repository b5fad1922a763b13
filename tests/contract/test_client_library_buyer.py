"""The library's buyer at the real service, with real transfers: it pays once, or not at all."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from api.client.errors import (
    AnswerRefused,
    NotYet,
    OrderEnded,
    PaymentRefused,
    QuoteRefused,
    ServiceError,
    WrongContent,
)
from api.client.http import ATTEMPTS
from api.client.quote import Quote
from api.client.store import Store
from api.keys import LEDGER
from ledger.audit_keys import Trust
from ledger.order_events import DeliveryConfirmed, DeliveryDisputed
from scripts.devchain import DevChain
from scripts.rpc_proxy import Pairs, RpcProxy
from tests.clients.middleman import Fault, between, path_ends
from tests.contract.buying import (
    WORDS,
    Crash,
    CrashingStore,
    at_once,
    buyer_at,
    crook_before,
    payments,
    when_views_move,
)
from tests.contract.kit import ECHO_MICROS, MovableClock, Service, chain_recognised, serving
from tests.support.chain import funded_account, mining_paused

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOUR_MS = 3_600_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "buyer.db") as opened:
        yield opened


def quotes_after(service: Service, position: int) -> int:
    """Return how many orders began after a position."""
    entries = service.app[LEDGER].store.read(after=position, limit=1000)
    return sum(b'"kind":"quoted"' in entry for _, entry in entries)


async def test_a_whole_purchase_is_made_in_one_call(
    service: Service, chain: DevChain, store: Store
) -> None:
    funded_account(chain, "library one", 5_000_000)
    buyer = buyer_at(service.url, service.session, store, chain, "library one")

    bought = await buyer.buy("text_echo", WORDS, reference="first", rating=5)

    order_id = bought.quote.order_id
    assert bought.deliverable.text == WORDS
    assert payments(chain, "library one") == [ECHO_MICROS]
    assert service.kinds(order_id)[-1] == "confirmed"
    placed = service.app[LEDGER].read_order(order_id)
    receipt = placed[-1].signed.event
    assert isinstance(receipt, DeliveryConfirmed)
    assert receipt.binds == "content"
    assert receipt.rating == 5
    assert receipt.content_hash == sha256(WORDS.encode()).hexdigest()
    # The receipt names a head that this client was shown before it signed.
    assert receipt.head is not None
    assert receipt.head.size >= bought.quote.position
    origin = service.app[LEDGER].origin
    assert buyer.heads.head(origin).size >= placed[-1].position
    kept = {position for position, _, _ in buyer.heads.entries(origin)}
    assert {placed[0].position, placed[-1].position} <= kept
    assert buyer.unfinished() == []


async def test_the_same_call_again_pays_nothing_and_gets_the_same(
    service: Service, chain: DevChain, store: Store
) -> None:
    funded_account(chain, "library twice", 5_000_000)
    buyer = buyer_at(service.url, service.session, store, chain, "library twice")

    first = await buyer.buy("text_echo", WORDS, reference="twice")
    second = await buyer.buy("text_echo", WORDS, reference="twice")
    third = await buyer.resume("twice")

    assert first == second == third
    assert payments(chain, "library twice") == [ECHO_MICROS]
    with pytest.raises(ValueError, match="another purchase"):
        await buyer.buy("text_echo", "other words", reference="twice")


async def test_the_catalog_is_typed(service: Service, chain: DevChain, store: Store) -> None:
    buyer = buyer_at(service.url, service.session, store, chain, "library catalog")

    catalog = await buyer.catalog()

    assert next(offered.type for offered in catalog.services) == "text_echo"
    assert catalog.dev_chain is True


@pytest.mark.parametrize("written", [False, True], ids=["before", "after"])
async def test_a_crash_at_any_write_costs_nothing_and_pays_once(
    service: Service, chain: DevChain, tmp_path: Path, *, written: bool
) -> None:
    name = f"library crash {written}"
    funded_account(chain, name, 20_000_000)
    sleep = when_views_move(service)
    before = service.position
    for step in count(1):
        path = tmp_path / f"{step}.db"
        crashed = False
        with CrashingStore(path, step, written=written) as dying:
            buyer = buyer_at(service.url, service.session, dying, chain, name, sleep=sleep)
            try:
                await buyer.buy("text_echo", WORDS, reference="one")
            except Crash:
                crashed = True
        with Store(path) as store:
            buyer = buyer_at(service.url, service.session, store, chain, name, sleep=sleep)
            bought = await buyer.buy("text_echo", WORDS, reference="one")
        assert bought.deliverable.text == WORDS
        assert payments(chain, name) == [ECHO_MICROS] * step, f"crash at write {step}"
        assert service.kinds(bought.quote.order_id)[-1] == "confirmed"
        assert quotes_after(service, before) == step
        if not crashed:
            break
    assert step > 12


@pytest.mark.parametrize(
    "path", ["/ivxp/request", "/payment", "/confirm", "/auth/token", "/auth/challenge", "/events"]
)
async def test_a_lost_answer_is_asked_for_again(
    service: Service, chain: DevChain, store: Store, path: str
) -> None:
    name = f"library lost {path}"
    funded_account(chain, name, 5_000_000)
    before = service.position
    async with between(service.session, service.url, Fault(path_ends(path), lost=True)) as middle:
        buyer = buyer_at(middle.url, service.session, store, chain, name)
        bought = await buyer.buy("text_echo", WORDS, reference="lost")

    assert bought.deliverable.text == WORDS
    assert payments(chain, name) == [ECHO_MICROS]
    assert quotes_after(service, before) == 1


async def test_a_notice_whose_answers_all_get_lost_is_given_until_one_arrives(
    service: Service, chain: DevChain, store: Store
) -> None:
    name = "library deaf"
    funded_account(chain, name, 5_000_000)
    lost = Fault(path_ends("/payment"), times=2 * ATTEMPTS, lost=True)
    async with between(service.session, service.url, lost) as middle:
        buyer = buyer_at(middle.url, service.session, store, chain, name)
        bought = await buyer.buy("text_echo", WORDS)

    assert bought.deliverable.text == WORDS
    assert payments(chain, name) == [ECHO_MICROS]


def said(quote: str, value: object) -> Callable[[dict[str, Any]], None]:
    def edit(body: dict[str, Any]) -> None:
        body["quote"][quote] = value

    return edit


def term(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    def edit(body: dict[str, Any]) -> None:
        body["terms"][name] = value

    return edit


FORGERIES: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "a lower price": (said("price_usdc", 0.05), "price"),
    "a higher price": (said("price_usdc", 0.2), "price"),
    "a price finer than a micro": (said("price_usdc", 0.10000001), "price"),
    "another address": (said("payment_address", "0x" + "66" * 20), "payment address"),
    "another network": (said("network", "base-mainnet"), "network"),
    "another token": (said("token_contract", "0x" + "66" * 20), "token"),
    "more time to pay": (term("payment_timeout", 999_999), "pay_by"),
    "another delivery": (said("estimated_delivery", "2020-01-01T00:00:00.000Z"), "deliver_by"),
    "another refund policy": (term("refund_policy", "no refunds"), "refund policy"),
    "another order": (
        lambda body: body.update(order_id="ivxp-00000000-0000-4000-8000-000000000001"),
        "order",
    ),
}


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_a_quote_that_says_otherwise_than_its_signed_terms_is_not_paid(
    service: Service, chain: DevChain, store: Store, forgery: str
) -> None:
    name = f"library forged {forgery}"
    funded_account(chain, name, 5_000_000)
    change, complaint = FORGERIES[forgery]
    async with crook_before(service.session, service.url) as crook:
        crook.edit = lambda path, body: change(body) if path == "/ivxp/request" else None
        buyer = buyer_at(crook.url, service.session, store, chain, name)
        with pytest.raises(QuoteRefused, match=complaint):
            await buyer.buy("text_echo", WORDS)

    assert payments(chain, name) == []


def tampered(member: str, value: object) -> Callable[[dict[str, Any]], None]:
    def edit(body: dict[str, Any]) -> None:
        body["ledger"][member] = value(body["ledger"][member]) if callable(value) else value

    return edit


BROKEN: dict[str, Callable[[dict[str, Any]], None]] = {
    "no proof at all": lambda body: body.pop("ledger"),
    "an entry with other words": tampered("entry", lambda e: e.replace("100000", "100001")),
    "another place": tampered("position", 1),
    "no siblings": tampered("proof", []),
    "siblings that are none": tampered("proof", ["=", "="]),
    "a checkpoint of another size": tampered("checkpoint", lambda c: c.replace("\n", "\n1", 1)),
    "an order head of nobody": tampered("order_head", {}),
    "another leaf": tampered("leaf", "0" * 64),
}


@pytest.mark.parametrize("broken", BROKEN)
async def test_a_quote_without_its_whole_proof_is_not_paid(
    service: Service, chain: DevChain, store: Store, broken: str
) -> None:
    name = "library unproven"
    funded_account(chain, name, 5_000_000)
    async with crook_before(service.session, service.url) as crook:
        crook.edit = lambda path, body: BROKEN[broken](body) if path == "/ivxp/request" else None
        buyer = buyer_at(crook.url, service.session, store, chain, name)
        with pytest.raises(AnswerRefused):
            await buyer.buy("text_echo", WORDS)

    assert payments(chain, name) == []


async def test_a_quote_above_the_budget_or_with_another_arbiter_is_not_paid(
    service: Service, chain: DevChain, store: Store
) -> None:
    buyer = buyer_at(service.url, service.session, store, chain, "library wishes")

    with pytest.raises(ServiceError, match="BUDGET_TOO_LOW"):
        await buyer.buy("text_echo", WORDS, budget_usdc="0.05")
    with pytest.raises(QuoteRefused, match="arbiter"):
        await buyer.buy("text_echo", WORDS, arbiter="0x" + "99" * 20)
    with pytest.raises(LookupError, match="no service"):
        await buyer.buy("no_such_thing", WORDS)


async def test_keys_from_elsewhere_are_held_against_the_logs(
    service: Service, chain: DevChain, tmp_path: Path
) -> None:
    ledger = service.app[LEDGER]
    good = Trust(ledger.log_key.vkey, ledger.signer.address)
    wrong = [Trust(wallet="0x" + "11" * 20), Trust(log_vkey="x+00000000+AAAA")]

    with Store(tmp_path / "good.db") as store:
        buyer = buyer_at(service.url, service.session, store, chain, "library", trust=good)
        assert (await buyer.quote("text_echo", WORDS)).price_micros == ECHO_MICROS
    for number, trust in enumerate(wrong):
        with Store(tmp_path / f"{number}.db") as store:
            buyer = buyer_at(service.url, service.session, store, chain, "library", trust=trust)
            with pytest.raises(AnswerRefused, match="genesis names"):
                await buyer.quote("text_echo", WORDS)


async def test_content_that_nobody_signed_for_is_refused_and_can_be_disputed(
    service: Service, chain: DevChain, store: Store
) -> None:
    name = "library tampered"
    funded_account(chain, name, 5_000_000)

    def edit(path: str, body: dict[str, Any]) -> None:
        if path.startswith("/ivxp/download/"):
            body["content"] = "other words"
            body["content_hash"] = sha256(b"other words").hexdigest()

    async with crook_before(service.session, service.url) as crook:
        crook.edit = edit
        sleep = when_views_move(service)
        buyer = buyer_at(crook.url, service.session, store, chain, name, sleep=sleep)
        with pytest.raises(WrongContent):
            await buyer.buy("text_echo", WORDS, reference="tampered")
        [open_purchase] = buyer.unfinished()
        order_id = open_purchase.order
        with pytest.raises(LookupError, match="could be confirmed"):
            await buyer.confirm(order_id)
        assert "confirmed" not in service.kinds(order_id)

        await buyer.dispute(order_id, "wrong_content", "these are other words")
        await buyer.dispute(order_id, "wrong_content", "these are other words")

    disputed = [p.signed.event for p in service.app[LEDGER].read_order(order_id)]
    [complaint] = [event for event in disputed if isinstance(event, DeliveryDisputed)]
    assert complaint.reason == "wrong_content"
    assert complaint.statement_id is not None
    assert payments(chain, name) == [ECHO_MICROS]
    assert buyer.unfinished() == []


async def test_content_whose_event_has_no_proven_place_is_refused(
    service: Service, chain: DevChain, store: Store
) -> None:
    name = "library placeless"
    funded_account(chain, name, 5_000_000)

    def other_sibling(path: str, text: str) -> str:
        if not path.endswith("/proof"):
            return text
        lines = text.split("\n")
        lines[2] = b64encode(bytes(32)).decode()
        return "\n".join(lines)

    async with crook_before(service.session, service.url) as crook:
        crook.rewrite = other_sibling
        sleep = when_views_move(service)
        buyer = buyer_at(crook.url, service.session, store, chain, name, sleep=sleep)
        with pytest.raises(AnswerRefused, match="place is not proven"):
            await buyer.buy("text_echo", WORDS)

    assert [purchase.state for purchase in buyer.unfinished()] == ["accepted"]


async def test_an_answer_that_proves_another_event_proves_nothing(
    service: Service, chain: DevChain, store: Store
) -> None:
    name = "library unrecorded"
    funded_account(chain, name, 5_000_000)
    sleep = when_views_move(service)
    answers: dict[str, dict[str, Any]] = {}
    async with crook_before(service.session, service.url) as crook:
        crook.edit = lambda path, body: answers.update({path.rpartition("/")[2]: body})
        buyer = buyer_at(crook.url, service.session, store, chain, name, sleep=sleep)
        order_id = (await buyer.quote("text_echo", WORDS, reference="it")).order_id
        await buyer.pay(order_id)
        payment, confirm = (f"/ivxp/orders/{order_id}/{act}" for act in ("payment", "confirm"))
        proof = {"ledger": answers["request"]["ledger"]}
        crook.canned = {payment: {"status": "accepted", "order_id": order_id, **proof}}
        with pytest.raises(AnswerRefused, match="follows the quote"):
            await buyer.deliver(order_id)
        crook.canned = {}
        await buyer.deliver(order_id)
        assert (await buyer.wait(order_id)).has_content
        await buyer.download(order_id)
        proof = {"ledger": answers["payment"]["ledger"]}
        crook.canned = {confirm: {"status": "confirmed", "order_id": order_id, **proof}}
        with pytest.raises(AnswerRefused, match="shows no event"):
            await buyer.confirm(order_id)

    assert [purchase.state for purchase in buyer.unfinished()] == ["received"]
    assert "confirmed" not in service.kinds(order_id)


async def test_a_node_of_another_chain_gets_no_transaction(
    service: Service, chain: DevChain, store: Store
) -> None:
    name = "library other chain"
    funded_account(chain, name, 5_000_000)

    def other_chain(pairs: Pairs) -> None:
        for asked, answered in pairs:
            if asked["method"] == "eth_chainId":
                answered["result"] = "0x1"

    with RpcProxy(chain.rpc_url) as proxy:
        proxy.rewrite(other_chain)
        buyer = buyer_at(service.url, service.session, store, chain, name, rpc_url=proxy.url)
        with pytest.raises(PaymentRefused, match="chain 1"):
            await buyer.buy("text_echo", WORDS)

    assert payments(chain, name) == []


async def test_a_payment_that_is_not_mined_yet_is_waited_for_and_not_paid_again(
    service: Service, chain: DevChain, store: Store
) -> None:
    name = "library pending"
    funded_account(chain, name, 5_000_000)
    waits: list[float] = []

    async def mine_at_the_third(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            chain.mine()
        await at_once(seconds)

    with mining_paused(chain):
        buyer = buyer_at(service.url, service.session, store, chain, name, sleep=mine_at_the_third)
        order_id = (await buyer.quote("text_echo", WORDS, reference="slow")).order_id
        tx_hash = await buyer.pay(order_id)
        with pytest.raises(NotYet, match="nobody pays again"):
            await buyer.deliver(order_id, patience_seconds=0)
        assert await buyer.pay(order_id) == tx_hash
        await buyer.deliver(order_id)

    # The service asks for two seconds between two questions.
    assert waits == [2.0] * 3
    assert payments(chain, name) == [ECHO_MICROS]
    assert "payment_claimed" in service.kinds(order_id)
    assert (await buyer.wait(order_id)).has_content


async def test_a_provider_whose_chain_is_silent_is_waited_for(
    chain: DevChain, tmp_path: Path
) -> None:
    name = "library silence"
    funded_account(chain, name, 5_000_000)
    waits: list[float] = []
    with RpcProxy(chain.rpc_url) as proxy, Store(tmp_path / "buyer.db") as store:

        async def restore_at_the_third(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                proxy.restore()
            await at_once(seconds)

        async with serving(tmp_path, chain, rpc_urls=proxy.url) as service:
            await chain_recognised(service.buyer(name))
            buyer = buyer_at(
                service.url, service.session, store, chain, name, sleep=restore_at_the_third
            )
            order_id = (await buyer.quote("text_echo", WORDS)).order_id
            await buyer.pay(order_id)
            proxy.cut()
            await buyer.deliver(order_id)
            await buyer.wait(order_id)
            assert "payment_claimed" in service.kinds(order_id)

    assert len(waits) >= 3
    assert payments(chain, name) == [ECHO_MICROS]


async def test_a_notice_that_grew_too_old_unsent_is_signed_anew(
    service: Service, chain: DevChain, tmp_path: Path
) -> None:
    name = "library old notice"
    funded_account(chain, name, 5_000_000)
    clock = MovableClock(offset_ms=-600_000)
    path = tmp_path / "old.db"
    sleep = when_views_move(service)
    with CrashingStore(path, 0, written=True) as dying:
        buyer = buyer_at(service.url, service.session, dying, chain, name, clock=clock)
        order_id = (await buyer.quote("text_echo", WORDS, reference="it")).order_id
        await buyer.pay(order_id)
        with pytest.raises(ServiceError, match="INVALID_TIMESTAMP"):
            await buyer.deliver(order_id)
    with Store(path) as store:
        buyer = buyer_at(service.url, service.session, store, chain, name, sleep=sleep)
        bought = await buyer.resume("it")

    assert bought.deliverable.text == WORDS
    assert payments(chain, name) == [ECHO_MICROS]


async def test_a_node_that_takes_the_transaction_and_loses_its_answer_is_not_sent_another(
    service: Service, chain: DevChain, store: Store
) -> None:
    name = "library lost answer"
    funded_account(chain, name, 5_000_000)

    def lose(pairs: Pairs) -> None:
        pairs[:] = [p for p in pairs if p[0]["method"] != "eth_sendRawTransaction"]

    with RpcProxy(chain.rpc_url) as proxy:
        proxy.rewrite(lose)
        buyer = buyer_at(
            service.url,
            service.session,
            store,
            chain,
            name,
            rpc_url=proxy.url,
            sleep=when_views_move(service),
        )
        bought = await buyer.buy("text_echo", WORDS)

    assert bought.deliverable.text == WORDS
    assert payments(chain, name) == [ECHO_MICROS]


async def test_a_transaction_whose_nonce_was_used_up_is_signed_anew_once_that_is_final(
    service: Service, chain: DevChain, tmp_path: Path
) -> None:
    name = "library replaced"
    account = funded_account(chain, name, 5_000_000)
    path = tmp_path / "replaced.db"
    with CrashingStore(path, 0, written=True) as dying:
        buyer = buyer_at(service.url, service.session, dying, chain, name)
        order_id = (await buyer.quote("text_echo", WORDS, reference="it")).order_id
        dying.left = 1
        with pytest.raises(Crash):
            await buyer.pay(order_id)  # signed and kept, never sent
    chain.send(account.key, to="0x" + "cc" * 20, value_wei=1)
    for _ in range(8):
        chain.mine()
    with Store(path) as store:
        buyer = buyer_at(
            service.url, service.session, store, chain, name, sleep=when_views_move(service)
        )
        bought = await buyer.resume("it")

    assert bought.deliverable.text == WORDS
    assert payments(chain, name) == [ECHO_MICROS]


async def test_two_purchases_at_once_take_two_nonces(
    service: Service, chain: DevChain, tmp_path: Path
) -> None:
    name = "library several"
    funded_account(chain, name, 5_000_000)
    path = tmp_path / "several.db"
    with CrashingStore(path, 0, written=True) as dying:
        buyer = buyer_at(service.url, service.session, dying, chain, name)
        first = (await buyer.quote("text_echo", WORDS, reference="a")).order_id
        dying.left = 1
        with pytest.raises(Crash):
            await buyer.pay(first)
    with Store(path) as store:
        buyer = buyer_at(
            service.url, service.session, store, chain, name, sleep=when_views_move(service)
        )
        await buyer.buy("text_echo", WORDS, reference="b")
        await buyer.resume("a")

    assert payments(chain, name) == [ECHO_MICROS] * 2


async def test_a_transaction_that_was_never_sent_stays_unsent_when_its_time_is_over(
    service: Service, chain: DevChain, tmp_path: Path
) -> None:
    name = "library overdue"
    funded_account(chain, name, 5_000_000)
    path = tmp_path / "overdue.db"
    with CrashingStore(path, 0, written=True) as dying:
        buyer = buyer_at(service.url, service.session, dying, chain, name)
        order_id = (await buyer.quote("text_echo", WORDS, reference="a")).order_id
        dying.left = 1
        with pytest.raises(Crash):
            await buyer.pay(order_id)
    sleep = when_views_move(service)
    with Store(path) as store:
        late = MovableClock(HOUR_MS)
        buyer = buyer_at(service.url, service.session, store, chain, name, clock=late)
        with pytest.raises(PaymentRefused, match="time to pay is over"):
            await buyer.pay(order_id)
        assert payments(chain, name) == []

        # Nor does the next purchase send it along.
        buyer = buyer_at(service.url, service.session, store, chain, name, sleep=sleep)
        buyer.purchases.put(replace(buyer.purchases.of_order(order_id), pay_by=1))
        await buyer.buy("text_echo", WORDS, reference="b")

    assert payments(chain, name) == [ECHO_MICROS]


async def test_what_the_wallet_cannot_pay_is_not_signed(
    service: Service, chain: DevChain, store: Store
) -> None:
    funded_account(chain, "library poor", 1)
    buyer = buyer_at(service.url, service.session, store, chain, "library poor")
    quote: Quote = await buyer.quote("text_echo", WORDS, reference="poor")

    with pytest.raises(PaymentRefused, match="too little USDC"):
        await buyer.pay(quote.order_id)

    assert [purchase.state for purchase in buyer.unfinished()] == ["quoted"]


async def test_a_quote_whose_time_is_over_is_not_paid(
    service: Service, chain: DevChain, store: Store
) -> None:
    funded_account(chain, "library late", 5_000_000)
    clock = MovableClock()
    buyer = buyer_at(service.url, service.session, store, chain, "library late", clock=clock)
    order_id = (await buyer.quote("text_echo", WORDS)).order_id
    clock.offset_ms = HOUR_MS

    with pytest.raises(PaymentRefused, match="time to pay is over"):
        await buyer.pay(order_id)

    assert payments(chain, "library late") == []


async def test_an_order_that_ends_without_content_says_so(
    service: Service, chain: DevChain, store: Store
) -> None:
    funded_account(chain, "library ended", 5_000_000)

    def edit(path: str, body: dict[str, Any]) -> None:
        if path.startswith("/ivxp/orders/") and "status" in body and "price_usdc" in body:
            body["status"] = "refunded"
            body.pop("content_hash", None)

    async with crook_before(service.session, service.url) as crook:
        crook.edit = edit
        buyer = buyer_at(crook.url, service.session, store, chain, "library ended")
        with pytest.raises(OrderEnded, match="refunded"):
            await buyer.buy("text_echo", WORDS)
