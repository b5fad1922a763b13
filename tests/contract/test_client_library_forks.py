"""What a client does with a log that was rewritten, lost its end, or changed its keys."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from api.client.buyer import Buyer
from api.client.errors import AnswerRefused, ForkedLog, LogBehind
from api.client.store import Store
from api.keys import LEDGER
from ledger.checkpoint import LogKey, verify_checkpoint
from scripts.devchain import DevChain
from tests.contract.buying import WORDS, buyer_at, crook_before, when_views_move
from tests.contract.callers import OPERATOR, PARTY, signed_in
from tests.contract.kit import Service, serving
from tests.contract.test_keys import NEW_WALLET, add_wallet, key_file, opened, origin
from tests.support.chain import account_named, funded_account

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAME = "library forks"


async def histories(folder: Path, chain: DevChain) -> tuple[Path, Path]:
    """Return two folders with the same keys and the same beginning of one log."""
    here, there = folder / "here", folder / "there"
    here.mkdir()
    async with serving(here, chain) as service:
        await service.quote(service.buyer(PARTY))
    shutil.copytree(here, there)
    return here, there


def client(service: Service, url: str, store: Store, chain: DevChain) -> Buyer:
    return buyer_at(url, service.session, store, chain, NAME)


async def an_order(buyer: Buyer) -> None:
    await buyer.quote("text_echo", WORDS, budget_usdc=1)


async def a_look(buyer: Buyer) -> None:
    await buyer.catalog()


Ask = Callable[[Buyer], Awaitable[None]]


async def quoted(service: Service, times: int) -> None:
    for _ in range(times):
        await service.quote(service.buyer("somebody else"))


@pytest.mark.parametrize("silent", [False, True], ids=["it says so", "it is silent"])
@pytest.mark.parametrize("longer", [0, 3])
@pytest.mark.parametrize("ask", [an_order, a_look], ids=["a write", "a read"])
async def test_a_second_history_is_evidence_and_ends_the_dealings(
    chain: DevChain, tmp_path: Path, ask: Ask, *, silent: bool, longer: int
) -> None:
    here, there = await histories(tmp_path, chain)
    path = tmp_path / "buyer.db"
    async with (
        serving(here, chain) as first,
        serving(there, chain) as second,
        crook_before(first.session, first.url) as crook,
    ):
        with Store(path) as store:
            buyer = client(first, crook.url, store, chain)
            await buyer.quote("text_echo", WORDS)
            held = buyer.heads.head(origin(first))
            # A silent service answers as one that never heard of the client's head.
            await quoted(second, longer + 1)
            crook.target = second.url
            crook.dropped = {"Ledger-Head"} if silent else set()
            with pytest.raises(ForkedLog) as forked:
                await ask(buyer)
            crook.target, crook.dropped = first.url, set()
            with pytest.raises(ForkedLog):
                await buyer.catalog()
        asked = len(crook.seen)
        with Store(path) as store:
            for url in (crook.url, first.url):
                with pytest.raises(ForkedLog) as remembered:
                    await client(first, url, store, chain).catalog()
                assert remembered.value.held == held.note
        vkey = first.app[LEDGER].log_key.vkey
        # A new buyer at a known URL asks nothing at all.
        assert len(crook.seen) == asked

    evidence = forked.value
    mine, shown = (
        verify_checkpoint(note, vkey, evidence.origin) for note in (evidence.held, evidence.shown)
    )
    assert mine.size == held.size
    assert mine.root != shown.root
    if not silent:
        assert shown.size == mine.size


async def test_an_order_that_is_told_from_another_history_is_a_fork(
    chain: DevChain, tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    async with serving(here, chain) as service:
        with Store(tmp_path / "buyer.db") as store:
            quote = await client(service, service.url, store, chain).quote("text_echo", WORDS)
    shutil.copytree(here, there)
    async with (
        serving(here, chain) as first,
        serving(there, chain) as second,
        crook_before(first.session, first.url) as crook,
    ):
        with Store(tmp_path / "other.db") as store:
            stranger = client(first, crook.url, store, chain)
            with pytest.raises(AnswerRefused, match="shown here"):
                await stranger._deliveries.story(quote.order_id)
        with Store(tmp_path / "buyer.db") as store:
            store.write("UPDATE services SET url=?", crook.url)
            buyer = client(first, crook.url, store, chain)
            await quoted(first, 1)
            await quoted(second, 2)
            await an_order(buyer)
            crook.moved = {f"/ledger/orders/{quote.order_id}/events": second.url}
            crook.dropped = {"Ledger-Head"}
            with pytest.raises(ForkedLog):
                await buyer._deliveries.story(quote.order_id)


async def test_a_log_that_lost_its_end_is_refused_and_nothing_is_held_against_it(
    chain: DevChain, tmp_path: Path
) -> None:
    here, there = await histories(tmp_path, chain)
    async with (
        serving(here, chain) as first,
        serving(there, chain) as second,
        crook_before(first.session, first.url) as crook,
    ):
        with Store(tmp_path / "buyer.db") as store:
            buyer = client(first, crook.url, store, chain)
            await quoted(first, 3)
            await buyer.quote("text_echo", WORDS)
            crook.target = second.url
            with pytest.raises(LogBehind):
                await buyer.catalog()
            crook.target = first.url
            assert (await buyer.catalog()).services
            crook.target, crook.dropped = second.url, {"Ledger-Head"}
            for ask in (an_order, a_look):
                with pytest.raises(LogBehind):
                    await ask(buyer)
            crook.target, crook.dropped = first.url, set()
            assert (await buyer.quote("text_echo", WORDS)).order_id


async def test_a_head_that_nobody_signed_is_refused_and_is_no_evidence(
    service: Service, chain: DevChain, tmp_path: Path
) -> None:
    async with crook_before(service.session, service.url) as crook:
        with Store(tmp_path / "buyer.db") as store:
            buyer = client(service, crook.url, store, chain)
            await buyer.quote("text_echo", WORDS)
            crook.changed = {"Ledger-Head": f"{service.position + 5} {'A' * 43}="}
            with pytest.raises(AnswerRefused, match="nobody signed"):
                await buyer.catalog()
            crook.changed = {"Ledger-Head": "no head"}
            assert (await buyer.catalog()).services
            assert crook.seen[-1] == "GET /ledger/checkpoint"
            crook.changed = {"Ledger-Consistency": "1 garbage"}
            # A signed head whose proof was garbled on the way is proven by asking again.
            assert (await buyer.quote("text_echo", WORDS)).order_id
            crook.changed = {}
            assert (await buyer.catalog()).services


async def test_answers_that_arrive_out_of_order_are_proven_all_the_same(
    service: Service, chain: DevChain, tmp_path: Path
) -> None:
    with Store(tmp_path / "buyer.db") as store:
        buyer = client(service, service.url, store, chain)
        quotes = await asyncio.gather(*(buyer.quote("text_echo", WORDS) for _ in range(12)))

        positions = {quote.position for quote in quotes}
        kept = {position for position, _, _ in buyer.heads.entries(origin(service))}
        assert len(positions) == 12
        assert positions <= kept
        assert buyer.heads.head(origin(service)).size >= max(positions)


async def test_an_older_head_of_our_history_is_proven_and_does_not_replace_the_newest(
    service: Service, chain: DevChain, tmp_path: Path
) -> None:
    with Store(tmp_path / "buyer.db") as store:
        buyer = client(service, service.url, store, chain)
        await an_order(buyer)
        older = buyer.heads.head(origin(service))
        await an_order(buyer)
        newest = buyer.heads.head(origin(service))
        book = await buyer.client.book()

        await buyer.client._reconcile(book.checkpoint(older.note), older.note, None)

        assert older.size < newest.size
        assert buyer.heads.head(origin(service)) == newest


async def test_another_log_of_a_known_name_is_refused(chain: DevChain, tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    async with (
        serving(tmp_path / "here", chain) as first,
        serving(tmp_path / "there", chain) as second,
    ):
        with Store(tmp_path / "buyer.db") as store:
            await client(first, first.url, store, chain).catalog()
            with pytest.raises(AnswerRefused, match="other keys"):
                await client(first, second.url, store, chain).catalog()


async def test_a_rotated_wallet_and_a_rotated_log_key_are_believed_because_the_log_proves_them(
    chain: DevChain, tmp_path: Path
) -> None:
    funded_account(chain, NAME, 5_000_000)
    wallet = key_file(tmp_path, "wallet", bytes(account_named(NEW_WALLET).key))
    seed = bytes(range(32))
    log_key = key_file(tmp_path, "log", seed)
    with Store(tmp_path / "buyer.db") as store:
        async with (
            opened(tmp_path, chain) as service,
            crook_before(service.session, service.url) as crook,
        ):
            buyer = client(service, crook.url, store, chain)
            await buyer.quote("text_echo", WORDS, reference="before")
            assert (await add_wallet(service)).status == 200
            operator = await signed_in(service, OPERATOR)
            vkey = LogKey(origin(service), seed).vkey
            added = await operator.post("/v1/log/keys", {"purpose": "log", "key": vkey})
            assert added.status == 200
            port = int(crook.url.rpartition(":")[2])
        async with (
            opened(tmp_path, chain, signer=wallet, log_key=log_key) as service,
            crook_before(service.session, service.url, port) as crook,
        ):
            sleep = when_views_move(service)
            buyer = buyer_at(crook.url, service.session, store, chain, NAME, sleep=sleep)
            bought = await buyer.resume("before")
            assert bought.deliverable.text == WORDS
            assert "confirmed" in service.kinds(bought.quote.order_id)


async def test_keys_that_do_not_carry_on_the_known_ones_are_refused(
    chain: DevChain, tmp_path: Path
) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    async with (
        serving(tmp_path / "here", chain) as first,
        serving(tmp_path / "there", chain) as second,
        crook_before(first.session, first.url) as crook,
    ):
        with Store(tmp_path / "buyer.db") as store:
            buyer = client(first, crook.url, store, chain)
            await buyer.quote("text_echo", WORDS)
            crook.target, crook.dropped = second.url, {"Ledger-Head"}
            with pytest.raises(AnswerRefused, match="do not carry on"):
                await an_order(buyer)
            with pytest.raises(AnswerRefused, match="did not sign"):
                await a_look(buyer)
