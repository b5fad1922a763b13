"""The TypeScript SDK's client (and the MCP adapter, which calls it) buys and fails as it does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import pytest
import pytest_asyncio

from api.keys import RUNNER
from scripts.devchain import DevChain
from tests.clients import sdk_answers
from tests.clients.middleman import Fault, between, path_ends
from tests.clients.receivers import CallbackServer, listening
from tests.clients.sdk import PartialSuccess, SdkClient, SdkError
from tests.clients.sdk_stream import TERMINAL, events_of
from tests.contract.client_shop import (
    BY_HAND,
    Pauses,
    hand_in,
    poor_wallet,
    sdk,
    shop,
    waiting_order,
    wallet,
)
from tests.contract.kit import WAIT_SECONDS, Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORDS = "Grüße, 世界 🌍\r\nsecond line"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service(
    chain: DevChain, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    async with shop(tmp_path_factory.mktemp("sdk"), chain) as running:
        yield running


def no_stream(method: str, target: str) -> bool:
    return "/ivxp/stream/" in target


def delays(client: SdkClient) -> list[float]:
    assert isinstance(client.pause, Pauses)
    return client.pause.asked


async def bought(client: SdkClient, service_type: str = "text_echo") -> dict[str, Any]:
    """Return the quote of an order that is paid and accepted."""
    quote = await client.request_quote(service_type, WORDS, 1)
    await client.submit_payment(quote)
    return quote


def without_proof(answer: object) -> dict[str, Any]:
    assert isinstance(answer, dict)
    return {name: value for name, value in answer.items() if name != "ledger"}


async def test_one_call_buys_over_the_stream(service: Service, chain: DevChain) -> None:
    client = sdk(service, wallet(chain, "sdk stream"))

    bought = await client.request_service("text_echo", WORDS, 0.1)

    assert bought.status["status"] == "delivered"
    assert bought.deliverable["deliverable"]["content"] == WORDS
    assert bought.confirmation["status"] == "confirmed"
    assert client.events[-1][0] == "completed"
    assert [kind for kind, _ in client.events if kind == "sse_fallback"] == []
    order = f"/ivxp/orders/{bought.order_id}"
    assert client.calls == [
        "GET /ivxp/catalog",
        "POST /ivxp/request",
        f"POST {order}/payment",
        f"GET /ivxp/stream/{bought.order_id}",
        f"GET {order}",
        f"GET {order}/deliverable",
        f"POST {order}/confirm",
    ]
    await service.recorded(bought.order_id, 6)
    kinds = service.kinds(bought.order_id)
    assert kinds[:4] == ["quoted", "paid", "processing", "ready"]
    # The hand-out is recorded after its last byte: the receipt may be quicker.
    assert kinds[4:] in (["delivered", "confirmed"], ["confirmed", "download_noted"])


async def test_the_stream_is_open_before_the_work_ends(service: Service, chain: DevChain) -> None:
    """The last event finds the status answer saying the same: the client asks only once."""
    client = sdk(service, wallet(chain, "sdk early stream"))

    async def work() -> None:
        await hand_in(service, await waiting_order(service, client.wallet.address), "by hand")

    buying, _ = await asyncio.gather(client.request_service(BY_HAND, "do it", 5), work())

    assert buying.status["status"] == "delivered"
    assert buying.deliverable["deliverable"]["content"] == "by hand"
    assert delays(client) == []
    said = [json.loads(data) for _, data in client.events]
    assert {data["order_id"] for data in said} == {buying.order_id}


async def test_one_call_buys_by_polling_where_the_stream_cannot_be_had(
    service: Service, chain: DevChain
) -> None:
    async with between(service.session, service.url, Fault(no_stream, 3, status=404)) as middle:
        client = sdk(service, wallet(chain, "sdk poll"), middle.url)
        bought = await client.request_service("word_count", "one two", 0.25)

    assert client.events[-1] == ("sse_fallback", "")
    assert delays(client)[:2] == [1.0, 2.0]
    assert json.loads(bought.deliverable["deliverable"]["content"])["words"] == 2
    assert bought.confirmation["status"] == "confirmed"


async def test_a_cut_stream_is_taken_up_again(service: Service, chain: DevChain) -> None:
    async with between(service.session, service.url, Fault(no_stream, cut_after=1)) as middle:
        client = sdk(service, wallet(chain, "sdk cut"), middle.url)
        bought = await client.request_service("text_echo", WORDS, 1)

    assert bought.status["status"] == "delivered"
    assert len([line for line in middle.seen if "/ivxp/stream/" in line]) == 2
    assert client.events[-1][0] == "completed"


async def test_who_comes_late_to_the_stream_is_told_the_end(
    service: Service, chain: DevChain
) -> None:
    client = sdk(service, wallet(chain, "sdk late"))
    quote = await client.request_quote("text_echo", WORDS, 1)
    _, url = await client.submit_payment(quote)
    await client.wait_for_delivery(quote["order_id"])
    await client.confirm_delivery(quote["order_id"])
    assert url is not None

    async with asyncio.timeout(WAIT_SECONDS):
        assert await client.subscribe_to_stream(url) == "completed"


async def test_every_piece_of_a_stream_holds_whole_events_in_lines_of_json(
    service: Service, chain: DevChain
) -> None:
    client = sdk(service, wallet(chain, "sdk pieces"))
    quote = await client.request_quote(BY_HAND, WORDS, 1)
    url = f"{service.url}/ivxp/stream/{quote['order_id']}"
    pieces = []
    async with service.session.get(url, headers={"Accept": "text/event-stream"}) as answer:
        await client.submit_payment(quote)
        await hand_in(service, quote["order_id"], WORDS)
        async with asyncio.timeout(WAIT_SECONDS):
            pieces = [piece async for piece, _ in answer.content.iter_chunks() if piece]

    assert pieces[0] == b": connected\n\n"
    assert all(piece.endswith(b"\n\n") and b"\r" not in piece for piece in pieces)
    events = [event for piece in pieces for event in events_of(piece)]
    words = [json.loads(data)["status"] for _, data in events]
    assert [kind for kind, _ in events if kind in TERMINAL] == ["completed"]
    assert list(dict.fromkeys(words)) == ["quoted", "paid", "processing", "delivered"]


async def test_the_end_is_not_told_while_the_status_answer_lags(
    service: Service, chain: DevChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client asks once after the end, and takes whatever it is told."""
    client = sdk(service, wallet(chain, "sdk lag"))
    quote = await client.request_quote(BY_HAND, WORDS, 1)
    _, url = await client.submit_payment(quote)
    await service.views_have(service.position)
    with monkeypatch.context() as held:
        held.setattr(service.app[RUNNER], "_follow", lambda: None)
        await hand_in(service, quote["order_id"], WORDS)
        async with service.session.get(url or "") as answer:
            status = await client.get_order_status(quote["order_id"])
            early = answer.content.read_nowait()
            held.undo()
            async with asyncio.timeout(WAIT_SECONDS):
                late = await answer.content.read()

    assert status["status"] == "processing"
    assert TERMINAL.isdisjoint(kind for kind, _ in events_of(early))
    assert events_of(late)[-1][0] == "completed"


async def test_polling_waits_longer_each_time_and_every_answer_parses(
    service: Service, chain: DevChain
) -> None:
    client = sdk(service, wallet(chain, "sdk delays"))
    quote = await client.request_quote(BY_HAND, "do it", 1)
    order_id = quote["order_id"]
    words = [(await client.get_order_status(order_id))["status"]]
    await client.submit_payment(quote)
    await service.views_have(service.position)
    words.append((await client.get_order_status(order_id))["status"])

    polling = asyncio.create_task(client.wait_for_delivery(order_id))
    await hand_in(service, order_id, "done")
    words.append((await polling)["status"])
    await client.confirm_delivery(order_id)
    words.append((await client.get_order_status(order_id))["status"])

    assert words == ["quoted", "processing", "delivered", "delivered"]
    assert delays(client) == [1.2, 2.4, 4.8, 9.6, 19.2, 36.0][: len(delays(client))]


async def test_a_failed_question_ends_the_polling(service: Service, chain: DevChain) -> None:
    """It is the client's habit; for its sake a known order never gets such an answer from us."""
    client = sdk(service, wallet(chain, "sdk one failure"))
    order_id = (await bought(client, BY_HAND))["order_id"]
    fault = Fault(path_ends(order_id), status=503)
    async with between(service.session, service.url, fault) as middle:
        polling = sdk(service, client.wallet, middle.url)
        with pytest.raises(SdkError) as raised:
            await polling.wait_for_delivery(order_id)

    assert (raised.value.code, raised.value.message) == (
        "SERVICE_UNAVAILABLE",
        "the network is bad",
    )
    assert len(middle.seen) == 1


async def test_polling_gives_up_after_twenty_questions(service: Service, chain: DevChain) -> None:
    client = sdk(service, poor_wallet(chain, "sdk twenty"))
    quote = await client.request_quote("text_echo", WORDS, 1)
    slept: list[float] = []

    async def pause(seconds: float) -> None:
        slept.append(seconds)

    client.pause = pause
    with pytest.raises(SdkError) as raised:
        await client.wait_for_delivery(quote["order_id"])

    assert raised.value.code == "MAX_POLL_ATTEMPTS"
    assert len(slept) == 20
    assert slept[:7] == [1.2, 2.4, 4.8, 9.6, 19.2, 36.0, 36.0]


async def test_the_callback_server_takes_the_push(service: Service, chain: DevChain) -> None:
    async with listening(CallbackServer) as receiver:
        client = sdk(service, wallet(chain, "sdk callback"))
        quote = await client.request_quote(
            "summary_card", WORDS, 1, contact_endpoint=receiver.url, delivery_format="markdown"
        )
        await client.submit_payment(quote)
        async with asyncio.timeout(WAIT_SECONDS):
            body = await receiver.taken.get()
        status = await client.wait_for_delivery(quote["order_id"])
        deliverable = (await client.download_deliverable(quote["order_id"]))["deliverable"]
        await client.confirm_delivery(quote["order_id"])

    assert receiver.answers == [(200, {"status": "received"})]
    assert (body["order_id"], status["status"]) == (quote["order_id"], "delivered")
    content = deliverable["content"]
    assert body["deliverable"]["content"] == content
    assert body["deliverable"]["content_hash"] == sha256(content.encode()).hexdigest()


async def test_one_call_buys_with_a_callback_server(service: Service, chain: DevChain) -> None:
    """The receipt may come before the push, which then is not needed any more."""
    async with listening(CallbackServer) as receiver:
        client = sdk(service, wallet(chain, "sdk one call callback"))
        deadline = "2099-01-01T00:00:00.000Z"
        bought = await client.request_service(
            "text_echo", WORDS, 1, contact_endpoint=receiver.url, deadline=deadline
        )

    assert bought.deliverable["deliverable"]["content"] == WORDS
    assert bought.confirmation["status"] == "confirmed"
    assert {status for status, _ in receiver.answers} <= {200}


@pytest.mark.parametrize("kind", ["text_echo", "word_count", "picture", "raw_echo"])
async def test_the_callback_server_takes_every_kind_of_content(
    service: Service, chain: DevChain, kind: str
) -> None:
    async with listening(CallbackServer) as receiver:
        client = sdk(service, wallet(chain, f"sdk callback {kind}"))
        quote = await client.request_quote(kind, "QUJDRA==", 1, contact_endpoint=receiver.url)
        await client.submit_payment(quote)
        async with asyncio.timeout(WAIT_SECONDS):
            await receiver.taken.get()

    assert receiver.answers == [(200, {"status": "received"})]


async def test_a_dead_callback_server_leaves_the_purchase_whole(
    service: Service, chain: DevChain
) -> None:
    async with listening(CallbackServer) as receiver:
        gone = receiver.url
    client = sdk(service, wallet(chain, "sdk dead callback"))

    bought = await client.request_service("text_echo", WORDS, 1, contact_endpoint=gone)

    assert bought.status["status"] == "delivered"
    assert bought.confirmation["status"] == "confirmed"


async def test_a_lost_answer_to_the_notice_is_made_good_by_sending_it_again(
    service: Service, chain: DevChain
) -> None:
    lost = Fault(path_ends("/payment"), lost=True)
    async with between(service.session, service.url, lost) as middle:
        client = sdk(service, wallet(chain, "sdk lost", 100_000), middle.url)
        quote = await client.request_quote("text_echo", WORDS, 1)
        with pytest.raises(PartialSuccess) as raised:
            await client.submit_payment(quote)
    client = sdk(service, client.wallet)
    await service.recorded(quote["order_id"], 3)

    again = await client.notify(client.notice(quote, raised.value.tx_hash))
    once_more = await client.notify(client.notice(quote, raised.value.tx_hash))

    assert sdk_answers.stream_url(again) is not None
    assert without_proof(again) == without_proof(once_more)
    assert (await client.wait_for_delivery(quote["order_id"]))["status"] == "delivered"
    assert service.kinds(quote["order_id"]).count("paid") == 1


async def test_a_notice_that_never_arrived_is_made_good_as_well(
    service: Service, chain: DevChain
) -> None:
    fault = Fault(path_ends("/payment"), status=502)
    async with between(service.session, service.url, fault) as middle:
        client = sdk(service, wallet(chain, "sdk never arrived", 100_000), middle.url)
        quote = await client.request_quote("text_echo", WORDS, 1)
        with pytest.raises(PartialSuccess) as raised:
            await client.submit_payment(quote)
        assert (await client.get_order_status(quote["order_id"]))["status"] in {"quoted", "paid"}
        await client.notify(client.notice(quote, raised.value.tx_hash))
        assert (await client.wait_for_delivery(quote["order_id"]))["status"] == "delivered"


async def test_the_same_bytes_sent_at_once_are_accepted_at_once_and_pay_once(
    service: Service, chain: DevChain
) -> None:
    client = sdk(service, wallet(chain, "sdk at once", 100_000))
    quote = await client.request_quote("text_echo", WORDS, 1)
    tx_hash = await client.wallet.pay(quote["quote"]["payment_address"], 100_000)
    notice = client.notice(quote, tx_hash)

    answers = await asyncio.gather(*(client.notify(notice) for _ in range(4)))

    assert all(sdk_answers.stream_url(answer) for answer in answers)
    assert service.kinds(quote["order_id"]).count("paid") == 1


async def test_a_transfer_pays_no_second_order(service: Service, chain: DevChain) -> None:
    client = sdk(service, wallet(chain, "sdk twice"))
    first = await client.request_quote("text_echo", WORDS, 1)
    tx_hash, _ = await client.submit_payment(first)
    second = await client.request_quote("text_echo", WORDS, 1)

    with pytest.raises(SdkError) as raised:
        await client.notify(client.notice(second, tx_hash))

    assert raised.value.code == "PAYMENT_NOT_VERIFIED"
    assert (await client.get_order_status(second["order_id"]))["status"] == "quoted"


async def test_a_confirmation_sent_again_gets_the_same_answer(
    service: Service, chain: DevChain
) -> None:
    client = sdk(service, wallet(chain, "sdk confirm again"))
    purchase = await client.request_service("text_echo", WORDS, 1)

    again = await client.confirm_delivery(purchase.order_id)

    assert again == purchase.confirmation
    assert service.kinds(purchase.order_id).count("confirmed") == 1


async def test_a_confirmation_whose_answer_was_lost_is_made_good(
    service: Service, chain: DevChain
) -> None:
    lost = Fault(path_ends("/confirm"), lost=True)
    async with between(service.session, service.url, lost) as middle:
        client = sdk(service, wallet(chain, "sdk confirm lost"), middle.url)
        with pytest.raises(SdkError):
            await client.request_service("text_echo", WORDS, 1)
        order_id = client.calls[-1].split("/")[3]
        confirmation = await client.confirm_delivery(order_id)

    assert confirmation["status"] == "confirmed"
    assert service.kinds(order_id).count("confirmed") == 1


async def test_failed_work_is_told_over_the_stream_and_by_polling(
    service: Service, chain: DevChain
) -> None:
    client = sdk(service, wallet(chain, "sdk failed"))

    with pytest.raises(SdkError) as raised:
        await client.request_service("breaks", WORDS, 1)

    assert raised.value.code == "DELIVERY_FAILED"
    assert client.events[-1][0] == "failed"
    order_id = raised.value.message
    assert (await client.wait_for_delivery(order_id))["status"] == "delivery_failed"
    with pytest.raises(SdkError) as raised:
        await client.download_deliverable(order_id)
    assert raised.value.code == "ORDER_NOT_FOUND"


async def test_a_download_too_early_is_refused_with_a_message(
    service: Service, chain: DevChain
) -> None:
    client = sdk(service, wallet(chain, "sdk early"))
    quote = await client.request_quote(BY_HAND, WORDS, 1)
    for paid in (False, True):
        if paid:
            await client.submit_payment(quote)
        with pytest.raises(SdkError) as raised:
            await client.download_deliverable(quote["order_id"])
        assert raised.value.code == "ORDER_NOT_FOUND"
        assert raised.value.message == "the deliverable is not ready"


async def test_a_confirmation_too_early_is_refused_with_a_message(
    service: Service, chain: DevChain
) -> None:
    client = sdk(service, wallet(chain, "sdk confirm early"))
    quote = await bought(client, BY_HAND)

    with pytest.raises(SdkError) as raised:
        await client.confirm_delivery(quote["order_id"])

    assert raised.value.code == "HTTP_409"
    assert raised.value.message not in {"", "Conflict"}


async def test_every_refusal_has_a_message_for_the_user(service: Service, chain: DevChain) -> None:
    client = sdk(service, wallet(chain, "sdk refusals"))
    stranger = sdk(service, poor_wallet(chain, "sdk stranger"))
    quote = await client.request_quote("text_echo", WORDS, 1)
    tx_hash = await client.wallet.pay(quote["quote"]["payment_address"], 1)
    cases = [
        (client.request_quote("nothing_like_it", WORDS, 1), "HTTP_400"),
        (client.request_quote("text_echo", WORDS, 0.05), "HTTP_400"),
        (client.get_order_status("ivxp-nonexistent"), "ORDER_NOT_FOUND"),
        (stranger.notify(stranger.notice(quote, tx_hash)), "SIGNATURE_INVALID"),
        (client.notify(client.notice(quote, "0x" + "ab" * 32)), "PAYMENT_NOT_VERIFIED"),
        (client.notify(client.notice(quote, tx_hash)), "PAYMENT_NOT_VERIFIED"),
    ]
    for call, code in cases:
        with pytest.raises(SdkError) as raised:
            await call
        assert raised.value.code == code
        # Without a message the user sees the status's own name, of one or two words.
        assert len(raised.value.message.split()) > 3


async def test_an_order_id_is_found_in_whatever_way_it_is_encoded(
    service: Service, chain: DevChain
) -> None:
    client = sdk(service, poor_wallet(chain, "sdk encoded"))
    order_id = (await client.request_quote("text_echo", WORDS, 1))["order_id"]
    every = "".join(f"%{ord(letter):02X}" for letter in order_id)
    for written in (every, every.lower(), order_id.replace("-", "%2D"), f"{order_id}?a=1&b=%20"):
        answer = await client._call("GET", f"/ivxp/orders/{written}")
        assert sdk_answers.status(answer)["order_id"] == order_id
    for unknown in ("a/b", "a b", "..", "%", "ivxp-é", "?", "#"):
        with pytest.raises(SdkError) as raised:
            await client.get_order_status(unknown)
        assert raised.value.code == "ORDER_NOT_FOUND"


async def test_a_query_changes_nothing_on_any_route(service: Service, chain: DevChain) -> None:
    client = sdk(service, wallet(chain, "sdk query"))
    quote = await client.request_quote("text_echo", WORDS, 1)
    tx_hash = await client.wallet.pay(quote["quote"]["payment_address"], 100_000)
    order = f"/ivxp/orders/{quote['order_id']}"
    answer = await client._call("POST", f"{order}/payment?utm=1", client.notice(quote, tx_hash))
    assert sdk_answers.stream_url(answer) is not None
    await client.wait_for_delivery(quote["order_id"])

    found = await client._call("GET", f"{order}/deliverable?utm=1&utm=2")

    assert sdk_answers.deliverable(found, quote["order_id"])["deliverable"]["content"] == WORDS
    assert sdk_answers.catalog(await client._call("GET", "/ivxp/catalog?utm"))["services"]


async def test_a_provider_below_a_path_is_bought_from(
    service: Service, chain: DevChain, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("prefix")
    async with shop(folder, chain, path_prefix="/agents/echo") as below:
        client = sdk(below, wallet(chain, "sdk prefix"), f"{below.url}/agents/echo//?key=1")
        bought = await client.request_service("text_echo", WORDS, 1)

    assert bought.deliverable["deliverable"]["content"] == WORDS
    assert client.calls[3] == f"GET /agents/echo/ivxp/stream/{bought.order_id}"
    assert client.events[-1][0] == "completed"


async def test_the_deliverable_says_who_made_it_and_its_hash(
    service: Service, chain: DevChain
) -> None:
    client = sdk(service, wallet(chain, "sdk hash"))
    wallet_address = (await client.get_catalog())["wallet_address"]

    bought = (await client.request_service("summary_card", WORDS, 1)).deliverable

    content = bought["deliverable"]["content"]
    assert bought["content_hash"] == sha256(content.encode()).hexdigest()
    assert bought["deliverable"]["format"] == "markdown"
    assert bought["provider_agent"]["wallet_address"] == wallet_address
