"""What the chain client sees of real transactions, reorganisations and faulty endpoints."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from aiohttp import ClientSession
from eth_account.signers.local import LocalAccount
from eth_typing import HexStr
from web3 import Web3
from web3.logs import DISCARD

from ledger.chain import Chain
from ledger.chain_quorum import SETTLE_BLOCKS
from ledger.errors import ChainUnavailable, Misconfigured
from ledger.event import Transfer
from ledger.finding import ChainView
from ledger.rpc import RpcEndpoint, RpcPool
from scripts.devchain import ASSETS, DevChain, encode_call
from scripts.rpc_proxy import Pairs, RpcProxy
from tests.support.chain import account_named, funded_account, mining_paused

USDC = 10**6
OTHER_TOKEN = "0x00000000000000000000000000000000000070ce"
NOWHERE = "0x" + "ab" * 32

LookerOf = Callable[..., Chain]


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


@pytest.fixture
def payee(name: str) -> str:
    return str(account_named(name + ": payee").address)


@pytest.fixture
def payer(chain: DevChain, name: str) -> LocalAccount:
    return funded_account(chain, name, 100 * USDC)


@pytest.fixture
def proxy(chain: DevChain) -> Iterator[RpcProxy]:
    with RpcProxy(chain.rpc_url) as running:
        yield running


@pytest.fixture
async def looker_of(chain: DevChain, payee: str) -> AsyncIterator[LookerOf]:
    """Make a chain client for the payee of this test; `endpoint` goes to its endpoint."""
    async with ClientSession() as session:

        def looker(
            url: str = chain.rpc_url,
            *,
            confirmations: int = 1,
            safe_above: int | None = None,
            **endpoint: Any,  # noqa: ANN401 - the limits of an endpoint
        ) -> Chain:
            return Chain(
                RpcPool([RpcEndpoint(url, session, **endpoint)]),
                chain_id=chain.chain_id,
                token=chain.usdc_address,
                payment_address=payee,
                min_confirmations=confirmations,
                safe_above_micros=safe_above,
            )

        yield looker


async def seen(looker: Chain, tx_hash: str) -> list[tuple[int, str, int]]:
    """Return ordinal, sender and amount of the transfers of a transaction deep enough."""
    finding = await looker.lookup(tx_hash)
    assert finding.view is ChainView.MINED, finding.detail
    return [(each.ordinal, each.sender, each.amount) for each in finding.transfers]


async def test_a_transfer_is_seen_with_its_block_in_one_request(
    chain: DevChain, proxy: RpcProxy, looker_of: LookerOf, payer: LocalAccount, payee: str
) -> None:
    tx_hash = chain.transfer(payer.key, payee, 5 * USDC)

    finding = await looker_of(proxy.url).lookup(tx_hash)

    [transfer] = finding.transfers
    assert (finding.view, finding.depth, finding.head_number) == (ChainView.MINED, 1, chain.head())
    assert (transfer.sender, transfer.recipient) == (payer.address.lower(), payee.lower())
    assert (transfer.amount, transfer.block_time) == (5 * USDC, chain.head_time())
    assert len(proxy.calls) == 1


async def test_an_unknown_transaction_is_not_found(looker_of: LookerOf) -> None:
    assert (await looker_of().lookup(NOWHERE)).view is ChainView.NOT_FOUND


async def test_a_pending_transaction_is_not_found(
    chain: DevChain, looker_of: LookerOf, payer: LocalAccount, payee: str
) -> None:
    with mining_paused(chain):
        tx_hash = chain.transfer(payer.key, payee, USDC, wait=False)
        assert (await looker_of().lookup(tx_hash)).view is ChainView.NOT_FOUND
    assert await seen(looker_of(), tx_hash) == [(0, payer.address.lower(), USDC)]


async def test_a_reverted_transfer_is_a_fact_once_it_is_deep_enough(
    chain: DevChain, looker_of: LookerOf, payer: LocalAccount, payee: str
) -> None:
    tx_hash = chain.transfer(payer.key, payee, 101 * USDC, wait=False)
    chain.wait_for_receipt(tx_hash)

    assert (await looker_of(confirmations=2).lookup(tx_hash)).view is ChainView.SHALLOW
    finding = await looker_of().lookup(tx_hash)
    assert (finding.view, finding.transfers) == (ChainView.REVERTED, ())


async def test_another_token_another_payee_and_a_transfer_of_nothing_pay_nothing(
    chain: DevChain, looker_of: LookerOf, payer: LocalAccount, payee: str, name: str
) -> None:
    code = (ASSETS / "usdc_like.runtime.hex").read_text().strip()
    chain.rpc("anvil_setCode", [OTHER_TOKEN, code])
    for call in (("initialize", "Fake", chain.minter.address), ("mint", payer.address, USDC)):
        chain.send(chain.minter.key, to=OTHER_TOKEN, data=encode_call("usdc_like", *call))
    fake = encode_call("usdc_like", "transfer", payee, USDC)
    stranger = funded_account(chain, name + ": stranger", 0)
    nothing = encode_call("usdc_like", "transferFrom", payer.address, payee, 0)

    hashes = [
        chain.send(payer.key, to=OTHER_TOKEN, data=fake),
        chain.transfer(payer.key, stranger.address, USDC),
        chain.send(stranger.key, to=chain.usdc_address, data=nothing),
    ]

    assert [await seen(looker_of(), each) for each in hashes] == [[], [], []]


async def test_several_transfers_in_one_transaction_keep_their_ordinals(
    chain: DevChain, looker_of: LookerOf, payer: LocalAccount, payee: str, name: str
) -> None:
    other = account_named(name + ": other").address
    payments = [(payee, USDC), (other, 2 * USDC), (payee, 3 * USDC)]

    tx_hash = chain.transfer_many_in_one_tx(payer.key, payments)

    sender = payer.address.lower()
    assert await seen(looker_of(), tx_hash) == [(0, sender, USDC), (2, sender, 3 * USDC)]


async def test_a_fee_leaves_what_arrived(
    chain: DevChain, looker_of: LookerOf, payer: LocalAccount, payee: str
) -> None:
    def set_fee(basis_points: int) -> None:
        knobs = [basis_points, OTHER_TOKEN, False]
        chain.send(
            chain.minter.key,
            to=chain.usdc_address,
            data=encode_call("usdc_like", "setTestKnobs", *knobs),
        )

    set_fee(100)
    try:
        tx_hash = chain.transfer(payer.key, payee, 5 * USDC)
    finally:
        set_fee(0)

    assert await seen(looker_of(), tx_hash) == [(1, payer.address.lower(), 4_950_000)]


async def test_the_payer_of_a_relayed_authorization_is_its_signer(
    chain: DevChain, looker_of: LookerOf, payer: LocalAccount, payee: str, name: str
) -> None:
    relayer = funded_account(chain, name + ": relayer", 0)

    tx_hash = chain.send(
        relayer.key, to=chain.usdc_address, data=authorized(chain, payer, payee, 7 * USDC)
    )

    assert chain.wait_for_receipt(tx_hash)["from"] == relayer.address.lower()
    assert await seen(looker_of(), tx_hash) == [(1, payer.address.lower(), 7 * USDC)]


def authorized(chain: DevChain, payer: LocalAccount, payee: str, micros: int) -> str:
    """Return the call data of an EIP-3009 transfer that the payer signed."""
    fields = ["from", "to", "value", "validAfter", "validBefore", "nonce"]
    kinds = ["address", "address", "uint256", "uint256", "uint256", "bytes32"]
    values = [payer.address, payee, micros, 0, 2**40, b"\x07" * 32]
    signed = payer.sign_typed_data(
        domain_data={
            "name": chain.usdc_name,
            "version": "2",
            "chainId": chain.chain_id,
            "verifyingContract": chain.usdc_address,
        },
        message_types={
            "TransferWithAuthorization": [
                {"name": field, "type": kind} for field, kind in zip(fields, kinds, strict=True)
            ]
        },
        message_data=dict(zip(fields, values, strict=True)),
    )
    r, s = signed.r.to_bytes(32), signed.s.to_bytes(32)
    return encode_call("usdc_like", "transferWithAuthorization", *values, signed.v, r, s)


async def test_three_confirmations_are_waited_for(
    chain: DevChain, looker_of: LookerOf, payer: LocalAccount, payee: str
) -> None:
    tx_hash = chain.transfer(payer.key, payee, USDC)
    looker, views = looker_of(confirmations=3), []
    for _ in range(3):
        finding = await looker.lookup(tx_hash)
        views.append((finding.view, finding.depth, len(finding.transfers)))
        chain.mine()

    shallow, mined = ChainView.SHALLOW, ChainView.MINED
    assert views == [(shallow, 1, 1), (shallow, 2, 1), (mined, 3, 1)]


async def test_a_large_payment_waits_for_a_safe_block(
    chain: DevChain, looker_of: LookerOf, payer: LocalAccount, payee: str
) -> None:
    tx_hash = chain.transfer(payer.key, payee, 5 * USDC)
    looker, small = looker_of(safe_above=5 * USDC - 1), looker_of(safe_above=5 * USDC)

    assert (await small.lookup(tx_hash)).view is ChainView.MINED
    assert (await looker.lookup(tx_hash)).view is ChainView.SHALLOW
    chain.mine(2)
    assert (await looker.lookup(tx_hash)).finality == "safe"
    chain.mine(2)
    finding = await looker.lookup(tx_hash)
    assert (finding.view, finding.finality) == (ChainView.MINED, "finalized")


async def test_what_a_safe_block_is_where_a_node_knows_none(
    looker_of: LookerOf, payee: str, name: str
) -> None:
    def no_tags(pairs: Pairs) -> None:
        for asked, answer in pairs:
            if asked["params"] and asked["params"][0] in ("safe", "finalized"):
                answer["result"] = None

    # So many blocks move the time: not on the chain that tests share.
    with DevChain() as own, RpcProxy(own.rpc_url) as proxy:
        tx_hash = own.transfer(funded_account(own, name, USDC).key, payee, USDC)
        proxy.rewrite(no_tags)
        large = looker_of(proxy.url, safe_above=1)
        assert (await large.lookup(tx_hash)).view is ChainView.SHALLOW

        own.mine(SETTLE_BLOCKS)
        nothing = await large.lookup(NOWHERE)
        settled = own.rpc("eth_getBlockByNumber", [hex(own.head() - SETTLE_BLOCKS), False])

        assert nothing.safe_time == int(settled["timestamp"], 16)
        assert (await large.lookup(tx_hash)).finality == "safe"


async def test_a_reorganisation_that_drops_the_transaction_leaves_nothing(
    chain: DevChain, looker_of: LookerOf, payer: LocalAccount, payee: str
) -> None:
    tx_hash = chain.transfer(payer.key, payee, USDC)
    assert await seen(looker_of(), tx_hash)

    chain.reorg(1)

    assert (await looker_of().lookup(tx_hash)).view is ChainView.NOT_FOUND


async def test_a_reorganisation_that_moves_the_transaction_keeps_its_key(
    chain: DevChain, looker_of: LookerOf, payer: LocalAccount, payee: str, name: str
) -> None:
    stranger = funded_account(chain, name + ": stranger", USDC)
    tx_hash = chain.transfer(payer.key, payee, USDC)
    [before] = (await looker_of().lookup(tx_hash)).transfers
    in_front = chain.transfer(stranger.key, account_named(name).address, USDC)

    moved = [(chain.raw_transaction(each), 0) for each in (in_front, tx_hash)]
    chain.reorg(2, moved)

    [after] = (await looker_of().lookup(tx_hash)).transfers
    assert after.key == before.key
    assert (before.log_index, after.log_index) == (0, 1)
    assert after.block_hash != before.block_hash


async def test_a_hundred_cancelled_calls_leave_the_client_working(
    chain: DevChain, proxy: RpcProxy, looker_of: LookerOf, payer: LocalAccount, payee: str
) -> None:
    tx_hash = chain.transfer(payer.key, payee, USDC)
    looker = looker_of(proxy.url, timeout_s=30)
    proxy.hang()
    lookups = [asyncio.create_task(looker.lookup(tx_hash)) for _ in range(100)]
    await asyncio.to_thread(proxy.wait_for_calls, 32)

    for each in lookups:
        each.cancel()
    ends = await asyncio.gather(*lookups, return_exceptions=True)
    proxy.restore()

    assert all(isinstance(end, asyncio.CancelledError) for end in ends)
    findings = await asyncio.gather(*(looker.lookup(tx_hash) for _ in range(100)))
    assert {finding.view for finding in findings} == {ChainView.MINED}


async def test_a_silent_or_cut_endpoint_is_unavailable(
    proxy: RpcProxy, looker_of: LookerOf
) -> None:
    proxy.hang()
    assert (await looker_of(proxy.url, timeout_s=0.1).lookup(NOWHERE)).view is ChainView.UNAVAILABLE
    proxy.cut()
    assert (await looker_of(proxy.url).lookup(NOWHERE)).view is ChainView.UNAVAILABLE


async def test_a_lying_chain_id_is_refused_at_start_and_no_fact_later(
    chain: DevChain, proxy: RpcProxy, looker_of: LookerOf, payer: LocalAccount, payee: str
) -> None:
    def lie(pairs: Pairs) -> None:
        for asked, answer in pairs:
            if asked["method"] == "eth_chainId":
                answer["result"] = "0x1"

    tx_hash = chain.transfer(payer.key, payee, USDC)
    looker = looker_of(proxy.url)
    await looker.check_identity()
    genesis = chain.rpc("eth_getBlockByNumber", ["0x0", False])["hash"]
    assert await looker.genesis_hash() == genesis

    proxy.rewrite(lie)

    assert (await looker.lookup(tx_hash)).view is ChainView.UNAVAILABLE
    with pytest.raises(Misconfigured):
        await looker.check_identity()
    with pytest.raises(ChainUnavailable):
        await looker.genesis_hash()


async def test_a_storm_of_429_is_not_fed_and_passes(
    chain: DevChain, proxy: RpcProxy, looker_of: LookerOf, payer: LocalAccount, payee: str
) -> None:
    now = [0.0]
    tx_hash = chain.transfer(payer.key, payee, USDC)
    looker = looker_of(proxy.url, clock=lambda: now[0], failures_before_rest=5, rest_s=2.0)
    proxy.status_429()

    views = [(await looker.lookup(tx_hash)).view for _ in range(50)]

    assert set(views) == {ChainView.UNAVAILABLE}
    assert len(proxy.calls) == 5
    proxy.restore()
    now[0] = 2.0
    assert (await looker.lookup(tx_hash)).view is ChainView.MINED


def without_one_answer(pairs: Pairs) -> None:
    del pairs[1]


def without_topics(pairs: Pairs) -> None:
    del pairs[1][1]["result"]["logs"][0]["topics"]


def with_half_a_hash(pairs: Pairs) -> None:
    pairs[1][1]["result"]["blockHash"] = "0xab"


async def test_a_garbled_answer_is_unavailable(
    chain: DevChain, proxy: RpcProxy, looker_of: LookerOf, payer: LocalAccount, payee: str
) -> None:
    tx_hash = chain.transfer(payer.key, payee, USDC)
    for change in (without_one_answer, without_topics, with_half_a_hash):
        proxy.rewrite(change)
        assert (await looker_of(proxy.url).lookup(tx_hash)).view is ChainView.UNAVAILABLE


async def test_an_answer_that_breaks_off_is_unavailable(looker_of: LookerOf) -> None:
    async def half(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n[{"id":1,"result"')
        writer.close()

    async with await asyncio.start_server(half, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        finding = await looker_of(f"http://127.0.0.1:{port}").lookup(NOWHERE)
    assert finding.view is ChainView.UNAVAILABLE


async def test_the_hand_cut_logs_equal_those_of_web3(
    chain: DevChain, looker_of: LookerOf, payer: LocalAccount, payee: str, name: str
) -> None:
    other = account_named(name + ": other").address
    hashes = [
        chain.transfer(payer.key, payee, 1),
        chain.transfer(payer.key, other, USDC),
        chain.transfer_many_in_one_tx(payer.key, [(payee, 0), (other, 5), (payee, 6), (payee, 7)]),
        chain.send(
            payer.key, to=chain.usdc_address, data=authorized(chain, payer, payee, 8 * USDC)
        ),
    ]
    web3 = Web3(Web3.HTTPProvider(chain.rpc_url))

    found = [(await looker_of().lookup(each)).transfers for each in hashes]

    assert found == [by_web3(web3, chain, payee, each) for each in hashes]
    assert sum(map(len, found)) == 4


def by_web3(web3: Web3, chain: DevChain, payee: str, tx_hash: str) -> tuple[Transfer, ...]:
    abi = json.loads((ASSETS / "usdc_like.abi.json").read_text())
    token = web3.eth.contract(Web3.to_checksum_address(chain.usdc_address), abi=abi)
    receipt = web3.eth.get_transaction_receipt(HexStr(tx_hash))
    indexes = [log["logIndex"] for log in receipt["logs"]]
    return tuple(
        Transfer(
            chain=f"eip155:{web3.eth.chain_id}",
            tx_hash=event["transactionHash"].to_0x_hex(),
            ordinal=indexes.index(event["logIndex"]),
            log_index=event["logIndex"],
            block_number=event["blockNumber"],
            block_hash=event["blockHash"].to_0x_hex(),
            block_time=web3.eth.get_block(event["blockHash"])["timestamp"],
            sender=event["args"]["sender"].lower(),
            recipient=event["args"]["receiver"].lower(),
            amount=event["args"]["value"],
        )
        for event in token.events.Transfer().process_receipt(receipt, errors=DISCARD)
        if event["args"]["receiver"] == payee and event["args"]["value"]
    )
