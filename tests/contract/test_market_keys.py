"""`Idempotency-Key` on the marketplace: the first answer, also after a restart."""

from pathlib import Path
from typing import Any

import pytest

from api.keys import LEDGER
from ledger.market_events import MessagePosted
from tests.contract.callers import OPERATOR, signed_in
from tests.contract.kit import Service, serving
from tests.support.chain import account_named
from tests.support.market import AGENT, CLIENT, Stall, market_settings

OPERATOR_WALLET = account_named(OPERATOR).address
KEY = {"Idempotency-Key": "once-and-for-all"}


async def keyed(
    service: Service, path: str, body: dict[str, Any], **headers: str
) -> tuple[int, dict[str, Any], bool]:
    async with service.session.post(
        service.url + path, json=body, headers={**KEY, **headers}
    ) as response:
        return response.status, await response.json(), "Idempotency-Replayed" in response.headers


def requests_of(stall: Stall, order_id: str) -> dict[str, dict[str, Any]]:
    """Return one good request per route that records something without a payment."""
    return {
        "/conversations": {
            "agentId": stall.agent,
            "clientWallet": CLIENT,
            "initialMessage": "again",
            "attachments": [1.5, {"a": None}],
        },
        f"/conversations/{stall.talk}/messages": {"from": CLIENT, "message": "hello"},
        "/orders": {
            "conversationId": stall.talk,
            "agentWallet": AGENT,
            "description": "a page",
            "price": 0.3,
            "deliveryTime": 5,
        },
        f"/orders/{order_id}/counter-offer": {
            "clientWallet": CLIENT,
            "price": 0.1,
            "message": "less",
        },
        f"/orders/{order_id}/cancel": {"wallet": AGENT},
    }


async def test_a_repeat_gets_the_first_answer_also_after_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path, **market_settings()) as service:
        stall = await Stall(service.session, service.url).open()
        order_id = await stall.offer()
        asked = requests_of(stall, order_id)
        first = {path: await keyed(service, path, body) for path, body in asked.items()}
        size = service.position
    async with serving(tmp_path, **market_settings()) as service:
        again = {path: await keyed(service, path, body) for path, body in asked.items()}

        assert service.position == size
    for path, (status, body, replayed) in again.items():
        body.pop("ledger")
        first[path][1].pop("ledger")
        assert (status, replayed) == (200, True), path
        assert (first[path][0], first[path][1]) == (200, body), path


@pytest.mark.parametrize("path", ["/conversations", "/orders"])
async def test_a_key_is_good_for_one_request(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path, **market_settings()) as service:
        stall = await Stall(service.session, service.url).open()
        asked = requests_of(stall, await stall.offer())[path]
        await keyed(service, path, asked)
        other = {**asked, "description": "another", "initialMessage": "another"}
        status, refused, _ = await keyed(service, path, other)

        assert (status, refused["error"]) == (422, "IDEMPOTENCY_KEY_REUSED")


async def test_words_that_were_erased_are_in_no_stored_answer_either(tmp_path: Path) -> None:
    """A repeat gets the first answer without them, in the form that it had."""
    words = "the words to be erased"
    async with serving(tmp_path, **market_settings(), operators=OPERATOR_WALLET) as service:
        stall = await Stall(service.session, service.url).open()
        asked = {
            f"/conversations/{stall.talk}/messages": {
                "from": CLIENT,
                "message": words,
                "attachments": [words],
            },
            "/orders": {
                "conversationId": stall.talk,
                "agentWallet": AGENT,
                "description": words,
                "price": 0.3,
                "deliveryTime": 5,
            },
        }
        first = {path: await keyed(service, path, body) for path, body in asked.items()}
        order_id = first["/orders"][1]["id"]
        await stall.done("POST", f"/orders/{order_id}/cancel", {"wallet": AGENT})
        operator = await signed_in(service, OPERATOR)
        for path in (f"/v1/conversations/{stall.talk}/erase", f"/v1/orders/{order_id}/erase"):
            assert (await operator.post(path, {"reason": "request"})).status == 200
        again = {path: await keyed(service, path, body) for path, body in asked.items()}
        history = await stall.done("GET", f"/conversations/{stall.talk}/messages")
    held = (tmp_path / "data" / "ledger.db").read_bytes()

    assert words.encode() not in held
    assert words not in str(history)
    for path, (status, body, replayed) in again.items():
        assert (status, replayed, body["id"]) == (200, True, first[path][1]["id"])
        assert words not in str(body)


async def test_only_what_was_erased_leaves_the_answers(tmp_path: Path) -> None:
    """Of two messages one is erased; the other one's answer stays whole. In memory, too."""
    async with serving(tmp_path, **market_settings(), operators=OPERATOR_WALLET) as service:
        stall = await Stall(service.session, service.url).open()
        path = f"/conversations/{stall.talk}/messages"
        texts = {key: {"from": CLIENT, "message": f"words of {key}"} for key in ("one", "two")}
        for key, body in texts.items():
            await keyed(service, path, body, **{"Idempotency-Key": key})
        profile = {"name": "Other", "ownerWallet": CLIENT, "description": "of itself"}
        _, agent, _ = await keyed(service, "/agents/register", profile)
        operator = await signed_in(service, OPERATOR)
        held = [
            p.signed.event for p in service.app[LEDGER].read_stream(f"conversation/{stall.talk}")
        ]
        first = next(e.text_id for e in held[2:] if isinstance(e, MessagePosted))
        said = {"reason": "request", "content_ids": [first]}
        erase = f"/v1/conversations/{stall.talk}/erase"
        assert (await operator.post(erase, said)).status == 200
        await operator.post(f"/v1/agents/{agent['agentId']}/erase", {"reason": "request"})
        again = {
            key: await keyed(service, path, body, **{"Idempotency-Key": key})
            for key, body in texts.items()
        }
        repeated = await keyed(service, "/agents/register", profile)

    assert [again[key][1]["message"] for key in ("one", "two")] == ["", "words of two"]
    assert [replayed for _, _, replayed in again.values()] == [True, True]
    assert (repeated[0], repeated[1]["error"]) == (409, "DUPLICATE_REGISTRATION")
