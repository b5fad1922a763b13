"""The client of a Solana node, against a real virtual machine behind a node that can fail."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from ledger.errors import ChainUnavailable, Misconfigured
from ledger.solana_node import is_silence
from ledger.solana_rpc import (
    BLOCKHASH_SLOTS,
    LAG_SLOTS,
    Failed,
    Landed,
    NotSubmitted,
    SolanaRpc,
    Submitted,
    Unknown,
)
from ledger.solana_wire import signature_of
from ledger.wallets import SOLANA_CHAINS
from tests.support.solana import (
    MAINNET_GENESIS,
    LocalSolana,
    signed,
    signed_transfer,
    transfer,
    wallet_named,
)

CLIENT = wallet_named("client")
OWNER = str(CLIENT.pubkey())
RECIPIENT = str(wallet_named("shop").pubkey())
PRICE = 2_010_000
HELD = 10 * PRICE
TIMEOUT_S = 0.5


@pytest_asyncio.fixture
async def solana() -> AsyncIterator[LocalSolana]:
    async with LocalSolana() as running:
        running.fund(OWNER, HELD)
        running.fund(RECIPIENT)
        yield running


@pytest_asyncio.fixture
async def rpc(solana: LocalSolana) -> AsyncIterator[SolanaRpc]:
    async with aiohttp.ClientSession() as session:
        yield SolanaRpc(solana.url, session, timeout_s=TIMEOUT_S)


def payment(solana: LocalSolana, micros: int = PRICE) -> str:
    return signed_transfer(CLIENT, RECIPIENT, micros, solana.blockhash)


async def is_unavailable(call: object, reason: str) -> ChainUnavailable:
    with pytest.raises(ChainUnavailable) as caught:
        await call  # type: ignore[misc]
    assert caught.value.details["reason"] == reason
    return caught.value


async def test_a_payment_is_submitted_and_lands(solana: LocalSolana, rpc: SolanaRpc) -> None:
    transaction = payment(solana)
    signature = signature_of(transaction)
    assert await rpc.status(signature) == Unknown(solana.slot)
    landed_at = solana.slot

    assert await rpc.send(transaction) == Submitted(signature)

    assert await rpc.status(signature) == Landed("finalized", landed_at)
    assert (solana.balance(OWNER), solana.balance(RECIPIENT)) == (HELD - PRICE, PRICE)


@pytest.mark.parametrize("finality", ["processed", "confirmed", "finalized"])
async def test_how_certain_it_is_is_told(
    solana: LocalSolana, rpc: SolanaRpc, finality: str
) -> None:
    solana.finality = finality
    sent = await rpc.send(payment(solana))
    assert isinstance(sent, Submitted)

    status = await rpc.status(sent.signature)

    assert isinstance(status, Landed)
    assert status.finality == finality


@pytest.mark.parametrize(
    ("votes", "error", "told"),
    [
        (None, None, Landed("finalized", 7)),
        (0, None, Landed("processed", 7)),
        (31, None, Landed("processed", 7)),
        (None, "AccountInUse", Failed("AccountInUse", 7)),
        (31, "AccountInUse", Unknown(9, failing="AccountInUse")),
    ],
)
async def test_without_a_word_for_it_the_votes_tell_how_certain_it_is(
    solana: LocalSolana,
    rpc: SolanaRpc,
    votes: int | None,
    error: str | None,
    told: Landed | Failed | Unknown,
) -> None:
    def rewrite(_: str, answer: dict[str, Any]) -> object:
        status = {"slot": 7, "confirmations": votes, "err": error, "confirmationStatus": None}
        answer["result"] = {"context": {"slot": 9}, "value": [status]}
        return answer

    solana.rewrites = rewrite

    assert await rpc.status(signature_of(payment(solana))) == told


async def test_what_the_node_has_already_is_submitted(solana: LocalSolana, rpc: SolanaRpc) -> None:
    transaction = payment(solana)

    assert await rpc.send(transaction) == await rpc.send(transaction)

    assert solana.balance(RECIPIENT) == PRICE


async def test_a_payer_without_the_tokens_is_told_from_one_without_fees(
    solana: LocalSolana, rpc: SolanaRpc
) -> None:
    without_tokens = await rpc.send(payment(solana, HELD + 1))
    stranger = wallet_named("stranger")
    without_fees = await rpc.send(signed_transfer(stranger, RECIPIENT, 1, solana.blockhash))

    assert without_tokens == NotSubmitted('{"InstructionError":[0,{"Custom":1}]}', "funds")
    assert without_fees == NotSubmitted("AccountNotFound", "funds")


async def test_an_old_blockhash_is_told(solana: LocalSolana, rpc: SolanaRpc) -> None:
    transaction = payment(solana)
    solana.expire_blockhash()

    assert await rpc.send(transaction) == NotSubmitted("BlockhashNotFound", "blockhash")


async def test_other_refusals_are_told(solana: LocalSolana, rpc: SolanaRpc) -> None:
    call = transfer(RECIPIENT, RECIPIENT, OWNER, 1)
    refused = await rpc.send(signed([CLIENT], solana.blockhash, call))

    assert isinstance(refused, NotSubmitted)
    assert refused.cause == "other"
    assert "InstructionError" in refused.reason


async def test_a_failure_in_a_block_is_a_failure_once_the_block_stays(
    solana: LocalSolana, rpc: SolanaRpc
) -> None:
    solana.skips_preflight = True
    landed_at = solana.slot
    sent = await rpc.send(payment(solana, HELD + 1))
    assert isinstance(sent, Submitted)
    reason = '{"InstructionError":[0,{"Custom":1}]}'

    for solana.finality in ("processed", "confirmed"):
        assert await rpc.status(sent.signature) == Unknown(solana.slot, failing=reason)
    solana.finality = "finalized"
    assert await rpc.status(sent.signature) == Failed(reason, landed_at)

    assert solana.balance(RECIPIENT) == 0


async def test_silence_is_unknown_and_the_payment_may_have_landed(
    solana: LocalSolana, rpc: SolanaRpc
) -> None:
    transaction = payment(solana)
    signature = signature_of(transaction)
    solana.silent = True
    await is_unavailable(rpc.send(transaction), "timeout")
    await is_unavailable(rpc.status(signature), "timeout")
    solana.silent = False
    assert isinstance(await rpc.status(signature), Unknown)

    solana.drops_after_submit = True
    await is_unavailable(rpc.send(transaction), "connection")
    solana.drops_after_submit = False

    assert isinstance(await rpc.status(signature), Landed)
    assert solana.balance(RECIPIENT) == PRICE
    assert await rpc.send(transaction) == Submitted(signature)
    assert solana.balance(RECIPIENT) == PRICE


async def test_an_error_of_the_node_is_unknown(solana: LocalSolana, rpc: SolanaRpc) -> None:
    solana.fails = True

    error = await is_unavailable(rpc.send(payment(solana)), "rpc_error")
    assert error.details["rpc_code"] == -32603
    await is_unavailable(rpc.status("1" * 64), "rpc_error")
    await is_unavailable(rpc.is_blockhash_valid(solana.blockhash), "rpc_error")


@pytest.mark.parametrize("code", [-32602, -32002, -32006, -32013, -32015, -32000])
async def test_a_transaction_that_the_node_does_not_want_was_not_submitted(
    solana: LocalSolana, rpc: SolanaRpc, code: int
) -> None:
    transaction = payment(solana)
    solana.refuses[signature_of(transaction)] = code

    refused = await rpc.send(transaction)

    assert refused == NotSubmitted(f"error {code}: invalid transaction", "other")


@pytest.mark.parametrize("code", [-32603, -32601, -32600, -32004, -32005, -32014, -32016, 429])
async def test_what_the_node_says_of_itself_is_unknown(
    solana: LocalSolana, rpc: SolanaRpc, code: int
) -> None:
    transaction = payment(solana)
    solana.refuses[signature_of(transaction)] = code

    with pytest.raises(ChainUnavailable) as caught:
        await rpc.send(transaction)

    assert caught.value.details["rpc_code"] == code
    assert not is_silence(caught.value)


async def test_an_error_without_a_number_is_unknown(solana: LocalSolana, rpc: SolanaRpc) -> None:
    error = {"message": "no"}
    solana.rewrites = lambda _, answer: {"jsonrpc": "2.0", "id": answer["id"], "error": error}

    await is_unavailable(rpc.send(payment(solana)), "rpc_error")


async def test_a_node_that_is_behind_asks_for_fewer_calls(
    solana: LocalSolana, rpc: SolanaRpc
) -> None:
    error = {"code": -32005, "message": "Node is behind by 200 slots"}
    solana.rewrites = lambda _, answer: {"jsonrpc": "2.0", "id": answer["id"], "error": error}

    await is_unavailable(rpc.send(payment(solana)), "throttled")


NONSENSE: dict[str, object] = {
    "no JSON": "<html>",
    "a list": [],
    "null": None,
    "no id": {"jsonrpc": "2.0", "result": 5},
    "another id": {"id": -1, "result": 5},
    "an id that is true": {"id": True, "result": 5},
    "nothing": {"id": "same"},
    "an error that is a word": {"id": "same", "error": "bad"},
    "a number": {"id": "same", "result": 5.5},
    "a word": {"id": "same", "result": "word"},
    "an object": {"id": "same", "result": {"value": 1}},
    "an odd value": {"id": "same", "result": {"context": {"slot": 5}, "value": [{"slot": 5}]}},
    "a slot that is a word": {"id": "same", "result": {"context": {"slot": "5"}, "value": True}},
    "too much": "[" + "1," * 2**20,
}


@pytest.mark.parametrize("told", NONSENSE.values(), ids=NONSENSE)
async def test_nonsense_is_unknown(solana: LocalSolana, rpc: SolanaRpc, told: object) -> None:
    def rewrite(_method: str, answer: dict[str, object]) -> object:
        same = isinstance(told, dict) and told.get("id") == "same"
        return {**told, "id": answer["id"]} if isinstance(told, dict) and same else told

    solana.rewrites = rewrite
    transaction = payment(solana)
    signature = signature_of(transaction)
    calls = [
        rpc.send(transaction),
        rpc.status(signature),
        rpc.is_blockhash_valid(solana.blockhash),
        rpc.slot(),
        rpc.genesis_hash(),
    ]

    for call in calls:
        with pytest.raises(ChainUnavailable) as caught:
            await call
        assert caught.value.details["reason"] in {"malformed", "oversized"}


async def test_after_failures_in_a_row_the_node_is_left_alone(
    solana: LocalSolana, rpc: SolanaRpc
) -> None:
    solana.rewrites = lambda _, _answer: "nonsense"
    for _ in range(8):
        with pytest.raises(ChainUnavailable):
            await rpc.slot()

    assert len(solana.calls) < 8
    resting = await is_unavailable(rpc.slot(), "resting")
    assert is_silence(resting)


async def test_the_network_is_recognised() -> None:
    for genesis, network in ((None, "devnet"), (MAINNET_GENESIS, "mainnet")):
        local = LocalSolana() if genesis is None else LocalSolana(genesis)
        async with local, aiohttp.ClientSession() as session:
            rpc = SolanaRpc(local.url, session)
            assert await rpc.genesis_hash() == local.genesis
            assert await rpc.chain() == SOLANA_CHAINS[network]


async def test_a_payment_that_was_lost_is_void_once_it_is_proven(
    solana: LocalSolana, rpc: SolanaRpc
) -> None:
    transaction, seen_at, blockhash = payment(solana), await rpc.slot(), solana.blockhash
    signature = signature_of(transaction)
    solana.loses = True
    assert await rpc.send(transaction) == Submitted(signature)

    async def is_void() -> bool:
        return await rpc.chance_to_land(signature, blockhash, seen_at_slot=seen_at) == "none"

    assert not await is_void()
    # No final block has the blockhash yet: that looks as if it were too old, and is not.
    solana.young = True
    assert await rpc.is_blockhash_valid(blockhash) == (False, seen_at - 32)
    assert await rpc.is_blockhash_valid(blockhash, "processed") == (True, seen_at)
    assert not await is_void()
    solana.young = False
    solana.advance(LAG_SLOTS)
    assert not await is_void()
    solana.expire_blockhash()
    # A node that is behind does not know yet what landed.
    solana.behind = 100
    assert not await is_void()
    solana.behind = 0
    assert await is_void()

    solana.restore()
    assert await rpc.send(transaction) == NotSubmitted("BlockhashNotFound", "blockhash")
    assert solana.balance(RECIPIENT) == 0


async def test_what_landed_is_never_void(solana: LocalSolana, rpc: SolanaRpc) -> None:
    transaction, seen_at, blockhash = payment(solana), await rpc.slot(), solana.blockhash
    signature = signature_of(transaction)
    solana.drops_after_submit = True
    await is_unavailable(rpc.send(transaction), "connection")
    solana.restore()
    solana.expire_blockhash()

    assert await rpc.chance_to_land(signature, blockhash, seen_at_slot=seen_at) == "open"


async def test_a_node_without_the_old_blocks_proves_nothing(
    solana: LocalSolana, rpc: SolanaRpc
) -> None:
    transaction, seen_at, blockhash = payment(solana), await rpc.slot(), solana.blockhash
    signature = signature_of(transaction)
    await rpc.send(transaction)
    solana.expire_blockhash()
    solana.advance(10_000)

    async def chance() -> str:
        return await rpc.chance_to_land(signature, blockhash, seen_at_slot=seen_at)

    # It looks as if it had never landed, and it has.
    solana.first_block = solana.slot - 1_000
    assert isinstance(await rpc.status(signature), Unknown)
    assert await chance() == "no_history"
    solana.restore()
    assert await chance() == "open"


@pytest.mark.parametrize(
    ("older", "chance"), [(BLOCKHASH_SLOTS, "none"), (BLOCKHASH_SLOTS - 1, "no_history")]
)
async def test_the_blocks_have_to_be_there_for_as_long_as_the_blockhash_may_have_been(
    solana: LocalSolana, rpc: SolanaRpc, older: int, chance: str
) -> None:
    """Its payer may have sent it before anybody asked here."""
    transaction, seen_at, blockhash = payment(solana), await rpc.slot(), solana.blockhash
    signature = signature_of(transaction)
    solana.expire_blockhash()
    solana.first_block = seen_at - older

    assert await rpc.chance_to_land(signature, blockhash, seen_at_slot=seen_at) == chance


async def test_a_node_that_does_not_tell_its_oldest_block_proves_nothing(
    solana: LocalSolana, rpc: SolanaRpc
) -> None:
    transaction, seen_at, blockhash = payment(solana), await rpc.slot(), solana.blockhash
    signature, code = signature_of(transaction), -32601
    solana.expire_blockhash()

    def rewrite(method: str, answer: dict[str, object]) -> object:
        error = {"code": code, "message": "Method not found"}
        return {"id": answer["id"], "error": error} if method.startswith("getFirst") else answer

    solana.rewrites = rewrite

    async def chance() -> str:
        return await rpc.chance_to_land(signature, blockhash, seen_at_slot=seen_at)

    assert await chance() == "no_history"
    code = -32603
    await is_unavailable(chance(), "rpc_error")


async def test_a_failed_payment_has_its_own_word(solana: LocalSolana, rpc: SolanaRpc) -> None:
    transaction, seen_at, blockhash = payment(solana, HELD + 1), await rpc.slot(), solana.blockhash
    signature = signature_of(transaction)
    solana.skips_preflight = True
    await rpc.send(transaction)
    solana.expire_blockhash()
    for solana.finality in ("processed", "confirmed", "finalized"):
        assert await rpc.chance_to_land(signature, blockhash, seen_at_slot=seen_at) == "open"

    assert isinstance(await rpc.status(signature), Failed)


async def test_a_key_in_the_url_is_never_told(solana: LocalSolana) -> None:
    async with aiohttp.ClientSession() as session:
        rpc = SolanaRpc(solana.url + "?api-key=geheim123", session, timeout_s=TIMEOUT_S)
        error = {"code": -32000, "message": "no access for geheim123"}
        solana.rewrites = lambda _, answer: {"id": answer["id"], "error": error}

        told = await is_unavailable(rpc.slot(), "rpc_error")

        assert "geheim123" not in f"{told} {told.details} {rpc!r}"
        with pytest.raises(Misconfigured):
            SolanaRpc("node.example.com", session)
