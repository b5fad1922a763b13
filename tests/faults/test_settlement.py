"""Payments of the marketplace over a chain that is silent, lies, loses and refuses; and kills.

The order comes to count as paid once, and only when the chain took the transfer; the client never
loses money to a repeat; nothing is called failed from silence.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from api.keys import LEDGER, RUNNER
from api.solana_link import SOLANA
from api.workers.settlement import settle_payments
from ledger.errors import Misconfigured, StoreUnavailable
from ledger.order import Order
from ledger.solana_wire import signature_of
from tests.contract.kit import WAIT_SECONDS, MovableClock, Service, serving
from tests.support.market import MARKET, PAYER, Stall, market_settings, pay
from tests.support.service import Service as Process
from tests.support.solana import MAINNET_GENESIS, LocalSolana

PRICE = 2_009_999
FUNDS = 10_000_000


@pytest.fixture
async def solana() -> AsyncIterator[LocalSolana]:
    async with LocalSolana() as chain:
        chain.fund(MARKET)
        chain.fund(str(PAYER.pubkey()), FUNDS)
        yield chain


@asynccontextmanager
async def market(
    folder: Path, solana: LocalSolana, **settings: object
) -> AsyncIterator[tuple[Service, Stall]]:
    async with serving(folder, **market_settings(solana, **settings)) as service:
        service.app[SOLANA].resend_seconds = 0
        yield service, await Stall(service.session, service.url).open()


@asynccontextmanager
async def again(folder: Path, solana: LocalSolana, **settings: object) -> AsyncIterator[Service]:
    """Run the same marketplace once more."""
    async with serving(folder, **market_settings(solana, **settings)) as service:
        service.app[SOLANA].resend_seconds = 0
        yield service


async def until(service: Service, is_so: Callable[[], bool]) -> None:
    """Wait for the views to move until something is so."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not is_so():
            await service.app[RUNNER].wait_for(service.app[RUNNER].position + 1, 1)


async def handed(stall: Stall) -> list[str]:
    """Poll for paid orders until there are some, and once more; the views may be a moment late."""
    async with asyncio.timeout(WAIT_SECONDS):
        found = await stall.paid()
        while not found:
            found = await stall.paid()
    return found + await stall.paid()


async def proofs_tried(stall: Stall, solana: LocalSolana, order_id: str, times: int) -> None:
    """Wait until the loop has tried that often to prove that a transfer can never land."""
    async with asyncio.timeout(WAIT_SECONDS):
        while solana.calls.count("getFirstAvailableBlock") < times:
            await stall.order(order_id)


async def accept_in_haste(stall: Stall, order_id: str, header: str) -> tuple[int, Any]:
    """Accept, and leave a transfer that the chain does not show at once to the loop."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("api.workers.settlement.ANSWER_SECONDS", 0.2)
        return await stall.accept(order_id, header)


def signature_in(header: str) -> str:
    return signature_of(json.loads(base64.b64decode(header))["payload"]["signedTransaction"])


async def looked_at_all(service: Service) -> None:
    """Make a round over all transfers, rested or not."""
    service.app[SOLANA].rests.clear()
    await settle_payments(service.app)


def moved(solana: LocalSolana) -> int:
    return solana.balance(MARKET)


async def test_a_taken_transfer_pays_once_and_a_repeat_submits_nothing(
    tmp_path: Path, solana: LocalSolana
) -> None:
    async with market(tmp_path, solana) as (service, stall):
        order_id = await stall.offer()
        _, first = await stall.accept(order_id, pay(solana))
        sent = solana.calls.count("sendTransaction")
        solana.advance(3)
        status, again = await stall.accept(order_id, pay(solana))

        assert (status, first["status"], first["paymentStatus"]) == (200, "PAID", "settled")
        names = ("transactionSignature", "agentAmount", "commissionAmount", "signature")
        assert {n: again[n] for n in names} == {n: first[n] for n in names}
        assert solana.calls.count("sendTransaction") == sent
        assert (moved(solana), await handed(stall)) == (PRICE, [order_id])
        assert service.kinds(order_id)[-2:] == ["payment_authorized", "payment_settled"]


async def test_what_the_node_took_is_not_sent_again_for_a_while(
    tmp_path: Path, solana: LocalSolana
) -> None:
    """Blocks take their time: until then the node itself passes the transfer on."""
    async with market(tmp_path, solana, loop_interval=60) as (service, stall):
        service.app[SOLANA].resend_seconds = WAIT_SECONDS
        order_id = await stall.offer()
        solana.loses = True
        await accept_in_haste(stall, order_id, pay(solana))
        await looked_at_all(service)
        taken = solana.calls.count("sendTransaction")
        await looked_at_all(service)
        left = solana.calls.count("sendTransaction")
        solana.restore()
        service.app[SOLANA].sent.clear()
        async with asyncio.timeout(WAIT_SECONDS):
            while "payment_settled" not in service.kinds(order_id):
                await looked_at_all(service)

        assert (left, moved(solana)) == (taken, PRICE)
        assert solana.calls.count("sendTransaction") == taken + 1


TOLD_BY_MOST = frozenset({"getGenesisHash", "getSlot", "getFirstAvailableBlock"})


def serving_few(method: str, answer: dict[str, Any]) -> object:
    """Be a node that submits and tells of transactions, and does little else."""
    error = {"code": -32601, "message": "Method not found"}
    return {"id": answer["id"], "error": error} if method in TOLD_BY_MOST else answer


async def test_a_node_that_serves_few_methods_settles_and_voids_nothing(
    tmp_path: Path, solana: LocalSolana
) -> None:
    solana.rewrites = serving_few
    with capture_logs() as lines:
        async with market(tmp_path, solana, loop_interval=60) as (service, stall):
            taken, lost, failed = [await stall.offer(price) for price in (2.01, 3.0, 99.0)]
            _, paid = await stall.accept(taken, pay(solana))
            solana.loses = True
            await accept_in_haste(stall, lost, pay(solana, 3.0))
            solana.loses, solana.skips_preflight = False, True
            await accept_in_haste(stall, failed, pay(solana, 99.0))
            solana.expire_blockhash()
            solana.advance(10_000)
            await looked_at_all(service)

            assert (paid["status"], paid["paymentStatus"]) == ("PAID", "settled")
            assert {service.kinds(each)[-1] for each in (lost, failed)} == {"payment_authorized"}
            assert moved(solana) == PRICE
    told = [line["event"] for line in lines if line["log_level"] == "warning"]
    assert len([line for line in told if "does not tell its network" in line]) == 1


async def test_a_node_that_tells_its_network_later_is_believed_from_then_on(
    tmp_path: Path, solana: LocalSolana
) -> None:
    solana.rewrites = serving_few
    async with market(tmp_path, solana, loop_interval=60) as (service, stall):
        before = await stall.done("GET", "/health")
        solana.restore()
        service.app[SOLANA].ask_after = 0
        order_id = await stall.offer(99.0)
        status, _ = await stall.accept(order_id, pay(solana, 99.0))
        after = await stall.done("GET", "/health")
        solana.expire_blockhash()
        solana.advance(400)
        await looked_at_all(service)

        assert (status, service.kinds(order_id)[-1]) == (402, "payment_voided")
        assert (before["settlement"], after["settlement"]) == ("chain_unknown", "ready")


async def test_what_was_seen_on_our_network_is_not_void_by_a_node_that_tells_none(
    tmp_path: Path, solana: LocalSolana
) -> None:
    async with market(tmp_path, solana, loop_interval=60) as (_, stall):
        order_id = await stall.offer(99.0)
        await stall.accept(order_id, pay(solana, 99.0))
    solana.rewrites = serving_few
    async with again(tmp_path, solana, loop_interval=60) as service:
        solana.expire_blockhash()
        solana.advance(400)
        await looked_at_all(service)

        assert service.kinds(order_id)[-1] == "payment_authorized"


async def test_a_payment_in_one_network_is_left_alone_while_another_one_is_set(
    tmp_path: Path, solana: LocalSolana
) -> None:
    """The chain took it, and the reply was lost; the other network has no trace of it."""
    async with market(tmp_path, solana, loop_interval=60) as (_, stall):
        order_id = await stall.offer()
        solana.drops_after_submit = True
        await accept_in_haste(stall, order_id, pay(solana))
        solana.restore()
    async with LocalSolana(MAINNET_GENESIS) as other:
        other.advance(10_000)
        changes = {"solana_network": "mainnet", "loop_interval": 60}
        with capture_logs() as lines:
            async with again(tmp_path, other, **changes) as service:
                for _ in range(2):
                    await looked_at_all(service)
                unsettled = service.kinds(order_id)[-1]
        assert "sendTransaction" not in other.calls
    async with again(tmp_path, solana) as service:
        await until(service, lambda: "payment_settled" in service.kinds(order_id))

        assert (unsettled, moved(solana)) == ("payment_authorized", PRICE)
    assert len([line for line in lines if "another Solana network" in line["event"]]) == 1


async def test_a_lost_reply_or_a_client_that_leaves_is_no_reason_to_wait_before_sending(
    tmp_path: Path, solana: LocalSolana
) -> None:
    async with market(tmp_path, solana, loop_interval=60) as (service, stall):
        service.app[SOLANA].resend_seconds = WAIT_SECONDS
        lost, left = await stall.offer(), await stall.offer(3.0)
        solana.loses, solana.drops_after_submit = True, True
        await accept_in_haste(stall, lost, pay(solana))
        solana.restore()
        solana.silent_to = "sendTransaction"
        await accept_in_haste(stall, left, pay(solana, 3.0))
        solana.restore()
        async with asyncio.timeout(WAIT_SECONDS):
            while moved(solana) < PRICE + 3_000_000:
                await looked_at_all(service)


async def test_a_developers_own_validator_stands_for_the_network(tmp_path: Path) -> None:
    async with LocalSolana(str(PAYER.pubkey())) as own:
        own.fund(MARKET)
        own.fund(str(PAYER.pubkey()), FUNDS)
        async with market(tmp_path, own, loop_interval=60) as (service, stall):
            taken, poor = await stall.offer(), await stall.offer(99.0)
            _, paid = await stall.accept(taken, pay(own))
            status, _ = await stall.accept(poor, pay(own, 99.0))
            own.expire_blockhash()
            own.advance(400)
            await looked_at_all(service)

            assert (paid["paymentStatus"], status) == ("settled", 402)
            assert service.kinds(poor)[-1] == "payment_voided"


async def test_a_node_of_another_network_ends_the_start(tmp_path: Path) -> None:
    async with LocalSolana(MAINNET_GENESIS) as foreign:
        with pytest.raises(Misconfigured, match="of solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"):
            async with market(tmp_path, foreign):
                pass


async def test_a_silent_node_before_anything_is_recorded_costs_nothing(
    tmp_path: Path, solana: LocalSolana
) -> None:
    async with market(tmp_path, solana) as (service, stall):
        order_id = await stall.offer()
        solana.fails = True
        status, refused = await stall.accept(order_id, pay(solana))
        kinds = service.kinds(order_id)
        solana.restore()
        _, paid = await stall.accept(order_id, pay(solana))

        assert (status, refused["error"], refused["retryable"]) == (
            503,
            "SERVICE_UNAVAILABLE",
            True,
        )
        assert kinds == ["order_proposed"]
        assert (paid["status"], moved(solana)) == ("PAID", PRICE)


async def test_a_reply_lost_after_the_chain_took_it_is_found_again(
    tmp_path: Path, solana: LocalSolana
) -> None:
    async with market(tmp_path, solana, loop_interval=60) as (service, stall):
        order_id = await stall.offer()
        solana.drops_after_submit = True
        status, answer = await stall.accept(order_id, pay(solana))
        before = (answer["paymentStatus"], answer["status"])
        solana.restore()
        await looked_at_all(service)

        assert (status, before) == (200, ("signed", "PENDING"))
        assert moved(solana) == PRICE
        assert await handed(stall) == [order_id]


async def test_a_node_that_forgets_what_it_took_is_sent_it_again(
    tmp_path: Path, solana: LocalSolana
) -> None:
    async with market(tmp_path, solana) as (service, stall):
        order_id = await stall.offer()
        solana.loses = True
        _, answer = await accept_in_haste(stall, order_id, pay(solana))
        solana.restore()
        await until(service, lambda: "payment_settled" in service.kinds(order_id))

        assert answer["paymentStatus"] == "signed"
        assert (moved(solana), await handed(stall)) == (PRICE, [order_id])


async def test_a_payer_without_funds_is_told_so_and_the_same_transfer_is_tried_again(
    tmp_path: Path, solana: LocalSolana
) -> None:
    async with market(tmp_path, solana) as (service, stall):
        order_id = await stall.offer()
        solana.fund(str(PAYER.pubkey()), 5)
        status, refused = await stall.accept(order_id, pay(solana))
        again, repeated = await stall.accept(order_id, pay(solana))
        solana.fund(str(PAYER.pubkey()), FUNDS)
        await until(service, lambda: "payment_settled" in service.kinds(order_id))

        assert (status, refused["error"], refused["retryable"]) == (402, "INSUFFICIENT_FUNDS", True)
        assert refused["details"]["outcome"] == "pending"
        assert (again, repeated["paymentStatus"]) == (200, "signed")
        assert (moved(solana), await handed(stall)) == (PRICE, [order_id])


async def test_a_payer_that_stays_without_funds_may_sign_anew_once_the_first_can_never_land(
    tmp_path: Path, solana: LocalSolana
) -> None:
    async with market(tmp_path, solana) as (service, stall):
        order_id = await stall.offer()
        solana.fund(str(PAYER.pubkey()), 5)
        header = pay(solana)
        status, _ = await stall.accept(order_id, header)
        solana.expire_blockhash()
        solana.advance(400)
        await until(service, lambda: "payment_voided" in service.kinds(order_id))
        solana.fund(str(PAYER.pubkey()), FUNDS)
        repeated, why = await stall.accept(order_id, header)
        _, paid = await stall.accept(order_id, pay(solana))

        assert (status, repeated, why["error"]) == (402, 409, "TRANSACTION_FAILED")
        assert (paid["status"], moved(solana)) == ("PAID", PRICE)
        assert service.kinds(order_id)[1:] == [
            "payment_authorized",
            "payment_voided",
            "payment_authorized",
            "payment_settled",
        ]


async def test_a_transfer_that_fails_in_a_block_is_void(
    tmp_path: Path, solana: LocalSolana
) -> None:
    async with market(tmp_path, solana) as (service, stall):
        order_id = await stall.offer()
        solana.fund(str(PAYER.pubkey()), 5)
        solana.skips_preflight = True
        status, refused = await stall.accept(order_id, pay(solana))

        assert (status, refused["error"]) == (402, "TRANSACTION_FAILED")
        assert service.kinds(order_id)[-1] == "payment_voided"
        assert (await stall.order(order_id))["status"] == "PENDING"
        assert moved(solana) == 0


async def test_a_failure_on_a_fork_is_no_failure(tmp_path: Path, solana: LocalSolana) -> None:
    """It failed in a block that is voted for and not final; on the fork that wins, it succeeds."""
    async with market(tmp_path, solana) as (service, stall):
        order_id, header = await stall.offer(), pay(solana)

        def rewrite(method: str, answer: dict[str, Any]) -> object:
            failed = {"slot": 5, "err": "AccountInUse", "confirmationStatus": "confirmed"}
            if method == "getSignatureStatuses":
                answer["result"]["value"] = [failed]
            return answer

        solana.loses, solana.rewrites = True, rewrite
        status, answer = await accept_in_haste(stall, order_id, header)
        before = service.kinds(order_id)[-1]
        solana.restore()
        await until(service, lambda: "payment_settled" in service.kinds(order_id))

        assert (status, answer["paymentStatus"], before) == (200, "signed", "payment_authorized")
        assert "payment_voided" not in service.kinds(order_id)
        assert (moved(solana), await handed(stall)) == (PRICE, [order_id])


async def test_a_node_that_lost_its_old_blocks_voids_nothing_and_an_operator_is_called_once(
    tmp_path: Path, solana: LocalSolana
) -> None:
    with capture_logs() as lines:
        async with market(tmp_path, solana) as (service, stall):
            order_id = await stall.offer()
            # The chain took it; the node was restored later, and has nothing of that time.
            solana.first_block = solana.slot + 1_000
            solana.drops_after_submit = True
            await stall.accept(order_id, pay(solana))
            solana.drops_after_submit = False
            solana.expire_blockhash()
            solana.advance(10_000)
            await proofs_tried(stall, solana, order_id, 3)
            unproven = service.kinds(order_id)[-1]
            # The operator names a node that has all blocks.
            solana.restore()
            await until(service, lambda: "payment_settled" in service.kinds(order_id))

            assert (unproven, moved(solana)) == ("payment_authorized", PRICE)
            assert await handed(stall) == [order_id]
    told = [line for line in lines if "lacks the blocks" in line["event"]]
    assert [line["log_level"] for line in told] == ["warning"]


@pytest.mark.parametrize("code", [-32602, -32603, -32005])
async def test_a_transfer_that_the_node_chokes_on_keeps_no_other_from_being_settled(
    tmp_path: Path, solana: LocalSolana, code: int
) -> None:
    async with market(tmp_path, solana) as (service, stall):
        bad, good = await stall.offer(), await stall.offer(3.0)
        header = pay(solana)
        solana.refuses[signature_in(header)] = code
        _, answer = await accept_in_haste(stall, bad, header)
        solana.loses = True
        await accept_in_haste(stall, good, pay(solana, 3.0))
        solana.loses = False
        await until(service, lambda: "payment_settled" in service.kinds(good))

        assert answer["paymentStatus"] == "signed"
        assert service.kinds(bad)[-1] == "payment_authorized"
        assert moved(solana) == 3_000_000


async def test_a_transfer_that_no_node_wants_is_void_when_its_time_is_over(
    tmp_path: Path, solana: LocalSolana
) -> None:
    async with market(tmp_path, solana) as (service, stall):
        order_id, header = await stall.offer(), pay(solana)
        solana.refuses[signature_in(header)] = -32602
        await accept_in_haste(stall, order_id, header)
        unproven = service.kinds(order_id)
        solana.expire_blockhash()
        solana.advance(400)
        await until(service, lambda: "payment_voided" in service.kinds(order_id))
        _, paid = await stall.accept(order_id, pay(solana))

        assert unproven[-1] == "payment_authorized"
        assert (paid["status"], moved(solana)) == ("PAID", PRICE)


@pytest.mark.parametrize("error", [KeyError("a fault of ours"), StoreUnavailable("a full disk")])
async def test_a_fault_with_one_order_keeps_no_other_from_being_settled(
    tmp_path: Path, solana: LocalSolana, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async with market(tmp_path, solana, loop_interval=60) as (service, stall):
        bad, good = await stall.offer(), await stall.offer(3.0)
        solana.loses = True
        await accept_in_haste(stall, bad, pay(solana))
        await accept_in_haste(stall, good, pay(solana, 3.0))
        order = service.app[LEDGER].order

        async def failing(order_id: str) -> Order | None:
            if order_id == bad:
                raise error
            return await order(order_id)

        monkeypatch.setattr(service.app[LEDGER], "order", failing)
        solana.restore()
        while "payment_settled" not in service.kinds(good):
            await looked_at_all(service)

        assert moved(solana) == 3_000_000


async def test_a_silent_node_ends_the_round(tmp_path: Path, solana: LocalSolana) -> None:
    async with market(tmp_path, solana, loop_interval=60) as (service, stall):
        solana.loses = True
        for price in (2.01, 3.0, 4.0):
            await accept_in_haste(stall, await stall.offer(price), pay(solana, price))
        solana.calls.clear()

        solana.drops_after_submit = True
        await looked_at_all(service)
        assert solana.calls.count("getSignatureStatuses") == 1

        # Nonsense may be about one transfer alone, until there is too much of it.
        solana.rewrites = lambda _, _answer: "nonsense"
        rounds = []
        for _ in range(3):
            with capture_logs() as lines:
                await looked_at_all(service)
            rounds.append([line["event"] for line in lines].count("settlement waits"))
        assert rounds == [3, 2, 1]


async def test_a_transfer_that_can_never_be_taken_is_void_and_not_before_that_is_proven(
    tmp_path: Path, solana: LocalSolana
) -> None:
    async with market(tmp_path, solana) as (service, stall):
        order_id, header = await stall.offer(), pay(solana)
        solana.expire_blockhash()
        solana.young = True
        _, answer = await accept_in_haste(stall, order_id, header)
        unproven = service.kinds(order_id)
        solana.restore()
        solana.advance(400)
        await until(service, lambda: "payment_voided" in service.kinds(order_id))
        _, paid = await stall.accept(order_id, pay(solana))

        assert (answer["paymentStatus"], unproven[-1]) == ("signed", "payment_authorized")
        assert (paid["status"], moved(solana)) == ("PAID", PRICE)


async def test_one_signed_transfer_pays_one_order(tmp_path: Path, solana: LocalSolana) -> None:
    async with market(tmp_path, solana) as (_, stall):
        orders = [await stall.offer() for _ in range(2)]
        header = pay(solana)
        answers = await asyncio.gather(*(stall.accept(order_id, header) for order_id in orders))

        assert sorted(status for status, _ in answers) == [200, 409]
        refused = next(body for status, body in answers if status == 409)
        assert (refused["error"], refused["details"]) == (
            "INVALID_PAYMENT_HEADER",
            {"reason": "already_used"},
        )
        assert moved(solana) == PRICE
        assert len(await handed(stall)) == 1


async def test_many_accepts_at_once_record_one_payment(tmp_path: Path, solana: LocalSolana) -> None:
    async with market(tmp_path, solana) as (service, stall):
        order_id, header = await stall.offer(), pay(solana)
        # Two transfers, as a retry signs another one; both would pay.
        headers = [header, pay(solana, 2.0100005)] * 4
        answers = await asyncio.gather(*(stall.accept(order_id, each) for each in headers))

        assert {status for status, _ in answers} == {200}
        assert len({body["transactionSignature"] for _, body in answers}) == 1
        assert service.kinds(order_id).count("payment_authorized") == 1
        assert moved(solana) in (PRICE, PRICE + 1)


async def test_without_a_node_a_signed_transfer_counts_at_once_and_is_called_signed(
    tmp_path: Path, solana: LocalSolana
) -> None:
    async with serving(tmp_path, **market_settings()) as service:
        stall = await Stall(service.session, service.url).open()
        order_id = await stall.offer()
        _, answer = await stall.accept(order_id, pay(solana))

        assert (answer["status"], answer["paymentStatus"]) == ("PAID", "signed")
        assert (await handed(stall), moved(solana)) == ([order_id], 0)
        order = await service.app[LEDGER].order(order_id)
        assert order is not None
        assert order.deal is not None
        assert order.received == PRICE


@pytest.mark.parametrize(
    "taken", [False, True], ids=["before it was sent", "after the chain took it"]
)
async def test_a_service_killed_between_record_and_settlement_settles_after_its_start(
    tmp_path: Path,
    solana: LocalSolana,
    taken: bool,  # noqa: FBT001 - a case
) -> None:
    """The transfer is recorded, the node hangs, the service is killed: no client is needed."""
    settings = {name: str(value) for name, value in market_settings(solana).items()}
    process = Process(tmp_path, **settings)
    await asyncio.to_thread(process.start)  # it asks the node, which runs on this loop
    async with aiohttp.ClientSession() as session:
        stall = await Stall(session, process.url).open()
        order_id, header = await stall.offer(), pay(solana)
        solana.drops_after_submit, solana.loses = taken, not taken
        asking = asyncio.create_task(stall.accept(order_id, header))
        async with asyncio.timeout(WAIT_SECONDS):
            while "sendTransaction" not in solana.calls:
                await stall.order(order_id)
        process.kill()
        await asyncio.gather(asking, return_exceptions=True)
        solana.restore()
        await asyncio.to_thread(process.start)
        stall.url = process.url
        paid = await handed(stall)
    process.stop()

    assert paid == [order_id]
    assert moved(solana) == PRICE


async def test_an_old_transfer_rests_between_looks_and_delays_no_new_one(
    tmp_path: Path, solana: LocalSolana
) -> None:
    clock = MovableClock()
    settings = market_settings(solana, loop_interval=60)
    async with serving(tmp_path, clock=clock, **settings) as service:
        service.app[SOLANA].resend_seconds = 0
        stall = await Stall(service.session, service.url).open()
        solana.loses = True
        await accept_in_haste(stall, await stall.offer(), pay(solana))
        clock.offset_ms = 600_000
        await looked_at_all(service)
        new = await stall.offer(3.0)
        await accept_in_haste(stall, new, pay(solana, 3.0, ahead_ms=600_000))
        solana.restore()
        solana.calls.clear()
        while "payment_settled" not in service.kinds(new):
            await settle_payments(service.app)

        assert moved(solana) == 3_000_000
        assert solana.calls.count("sendTransaction") == 1
