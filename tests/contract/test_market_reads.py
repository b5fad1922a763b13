"""Reading the marketplace: how much is read for it, and that an order's id alone opens nothing."""

import random
from pathlib import Path

import pytest

from api.keys import LEDGER
from ledger import stream as streams
from ledger.entry import SignedEvent
from ledger.market import Conversation, EraseWords, evolve_conversation
from ledger.service import Ledger
from ledger.values import conversation_stream
from tests.contract.callers import OPERATOR, signed_in
from tests.contract.kit import serving
from tests.contract.market_doors import furnished
from tests.contract.market_kit import market
from tests.support.chain import account_named
from tests.support.market import CLIENT, Stall, market_settings

MESSAGES = 60


async def talked(stall: Stall, count: int) -> None:
    for number in range(count):
        body = {"from": CLIENT, "message": f"word {number}"}
        await stall.done("POST", f"/conversations/{stall.talk}/messages", body)


async def test_an_idle_conversation_is_opened_by_its_ends_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[bytes] = []
    read = streams.read_entry

    def counted(entry: bytes) -> SignedEvent:
        opened.append(entry)
        return read(entry)

    async with serving(tmp_path, **market_settings()) as service:
        stall = await Stall(service.session, service.url).open()
        await talked(stall, MESSAGES)
    async with serving(tmp_path, **market_settings()) as service:
        stall = Stall(service.session, service.url, stall.agent, stall.talk)
        monkeypatch.setattr(streams, "read_entry", counted)
        for _ in range(5):
            shown = await stall.done("GET", f"/conversations/{stall.talk}")
        for _ in range(5):
            await stall.done("GET", f"/conversations/{stall.talk}/messages/new?wallet={CLIENT}")

    assert shown["clientWallet"] == CLIENT
    mine = [entry for entry in opened if conversation_stream(stall.talk).encode() in entry]
    assert len(mine) == 2


@pytest.mark.parametrize("seed", range(4))
async def test_a_conversation_is_the_same_by_its_ends_as_by_all_of_it(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - the same changes each time
    async with serving(tmp_path, **market_settings()) as service:
        stall = await Stall(service.session, service.url).open()
        ledger, stream = service.app[LEDGER], conversation_stream(stall.talk)
        for _ in range(8):
            await talked(stall, chance.randrange(3))
            held = [e for p in ledger.read_stream(stream) for e in _contents(p.signed)]
            erase = EraseWords((chance.choice(held),), "request", ledger.clock())
            if chance.random() < 0.5:
                await ledger.act_on_market(stream, erase)
        state, whole = ledger.store.load(stream).state, _folded(ledger, stream)

    assert isinstance(state, Conversation)
    assert (state.version, state.started, state.erased) == (
        whole.version,
        whole.started,
        whole.erased,
    )


@pytest.mark.parametrize("path", ["/ledger/orders/{}/head", "/ledger/orders/{}/events/1/proof"])
async def test_proofs_of_an_order_are_for_its_sides(tmp_path: Path, path: str) -> None:
    async with market(tmp_path, "credentials") as m:
        order_id = (await furnished(m)).orders["review"]
        async with m.service.session.get(m.service.url + path.format(order_id)) as got:
            assert got.status == 404


def _contents(signed: SignedEvent) -> list[str]:
    found = (getattr(signed.event, name, None) for name in ("text_id", "attachments_id"))
    return [each for each in found if each is not None]


def _folded(ledger: Ledger, stream: str) -> Conversation:
    talk: Conversation | None = None
    for placed in ledger.read_stream(stream):
        talk = evolve_conversation(talk, placed.signed)
    assert talk is not None
    return talk


async def test_a_worker_takes_no_order_of_the_marketplace(tmp_path: Path) -> None:
    """Its agent delivers, as JSON: the list of deliveries could not show anything else."""
    async with market(tmp_path, "credentials", operators=account_named(OPERATOR).address) as m:
        order_id = (await furnished(m)).orders["deliver"]
        operator = await signed_in(m.service, OPERATOR)
        for act in ("start", "deliverable"):
            answer = await operator.post(f"/v1/work/{order_id}/{act}", {"content": "no JSON"})
            assert (answer.status, answer.body["error"]) == (404, "ORDER_NOT_FOUND")
