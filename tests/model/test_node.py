"""The scripted chain answers as a real node does, for every case that the model makes of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp
import pytest
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address

from ledger.chain import Chain
from ledger.chain_scan import Span
from ledger.chain_transfers import Way
from ledger.event import Transfer
from ledger.finding import Finding
from ledger.rpc import RpcEndpoint, RpcPool
from scripts.devchain import BASE_SEPOLIA, BATCH_ADDRESS, USDC, DevChain, encode_call
from tests.model.node import ScriptedChain, Tx, authorization_log, transfer_log
from tests.model.wire import node_of
from tests.support.chain import account_named, funded_account, request
from tests.support.watching import authorization

EPOCH = 4
BEFORE = 12
NAMES = ("alice", "bob", "stranger", "treasury", "relayer")
NONCE = bytes(range(32))
USDC_ADDRESS = USDC[BASE_SEPOLIA][1]
PURSE = 1_000_000

Pay = tuple[str, str, int]
"""From, to, micro-USDC."""


def account(name: str) -> LocalAccount:
    return account_named(f"scripted chain: {name}")


def address(name: str) -> str:
    return str(account(name).address).lower()


class Stage(Protocol):
    """A chain that a scenario can be played on; transactions are known by a name."""

    def block(self, *names: str) -> None:
        """Mine one block with the transactions of these names, made ready before."""

    def pay(self, name: str, *pays: Pay) -> None: ...

    def authorize(self, name: str, payer: str, micros: int) -> None: ...

    def fail(self, name: str, payer: str) -> None: ...

    def reorg(self, depth: int, *kept: tuple[str, int]) -> None: ...

    def hash_of(self, name: str) -> str: ...

    def names(self) -> Sequence[str]: ...


@dataclass
class OnAnvil:
    """The real one. Transactions are signed when they are named, and sent with their block."""

    chain: DevChain
    raw: dict[str, str] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    nonces: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in NAMES:
            funded_account(self.chain, f"scripted chain: {name}", PURSE)
        # The first batch of a payer brings a transaction of its own; here it is made before.
        self.chain.transfer_many_in_one_tx(account("alice").key, [(address("bob"), 1)])
        self.nonces = {name: self._count(name) for name in NAMES}
        self.chain.mine(BEFORE)
        self.chain.set_automine(False)

    def block(self, *names: str) -> None:
        for name in names:
            self.chain.rpc("eth_sendRawTransaction", [self.raw[name]])
        self.chain.mine()

    def pay(self, name: str, *pays: Pay) -> None:
        payer = pays[0][0]
        if len(pays) == 1:
            data = encode_call("usdc_like", "transfer", address(pays[0][1]), pays[0][2])
            self._sign(name, payer, self.chain.usdc_address, data)
            return
        to, amounts = [address(to) for _, to, _ in pays], [micros for *_, micros in pays]
        data = encode_call("batch_transfer", "pay", self.chain.usdc_address, to, amounts)
        self._sign(name, payer, BATCH_ADDRESS, data)

    def authorize(self, name: str, payer: str, micros: int) -> None:
        data = authorization(self.chain, account(payer), address("treasury"), micros, NONCE)
        self._sign(name, "relayer", self.chain.usdc_address, data)

    def fail(self, name: str, payer: str) -> None:
        data = encode_call("usdc_like", "transfer", address("treasury"), 10 * PURSE)
        self._sign(name, payer, self.chain.usdc_address, data)

    def reorg(self, depth: int, *kept: tuple[str, int]) -> None:
        self.chain.reorg(depth, [(self.raw[name], place) for name, place in kept])

    def hash_of(self, name: str) -> str:
        return self.hashes[name]

    def names(self) -> Sequence[str]:
        return list(self.hashes)

    def _sign(self, name: str, payer: str, to: str, data: str) -> None:
        signed = account(payer).sign_transaction(
            {
                "chainId": self.chain.chain_id,
                "nonce": self.nonces[payer],
                "to": to_checksum_address(to),
                "data": data,
                "value": 0,
                "gas": 1_000_000,
                "maxFeePerGas": 100 * 10**9,
                "maxPriorityFeePerGas": 10**9,
            }
        )
        self.nonces[payer] += 1
        self.raw[name] = "0x" + bytes(signed.raw_transaction).hex()
        self.hashes[name] = "0x" + bytes(signed.hash).hex()

    def _count(self, name: str) -> int:
        return int(self.chain.rpc("eth_getTransactionCount", [address(name), "latest"]), 16)


@dataclass
class OnScript:
    """The scripted one."""

    chain: ScriptedChain
    txs: dict[str, Tx] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for _ in range(BEFORE):
            self.chain.mine(0)

    def block(self, *names: str) -> None:
        self.chain.mine(0, [self.txs[name] for name in names])

    def pay(self, name: str, *pays: Pay) -> None:
        token = USDC_ADDRESS.lower()
        logs = [transfer_log(token, address(a), address(b), micros) for a, b, micros in pays]
        self._add(name, pays[0][0], tuple(logs))

    def authorize(self, name: str, payer: str, micros: int) -> None:
        token, to = USDC_ADDRESS.lower(), address("treasury")
        used = authorization_log(token, address(payer), "0x" + NONCE.hex())
        self._add(name, "relayer", (used, transfer_log(token, address(payer), to, micros)))

    def fail(self, name: str, payer: str) -> None:
        self.txs[name] = Tx(self.chain.new_hash("tx"), address(payer), USDC_ADDRESS, reverted=True)

    def reorg(self, depth: int, *kept: tuple[str, int]) -> None:
        self.chain.reorg(depth, [(self.txs[name], place) for name, place in kept])

    def hash_of(self, name: str) -> str:
        return self.txs[name].hash

    def names(self) -> Sequence[str]:
        return list(self.txs)

    def _add(self, name: str, payer: str, logs: tuple[Any, ...]) -> None:
        self.txs[name] = Tx(self.chain.new_hash("tx"), address(payer), USDC_ADDRESS, logs)


def acts(stage: Stage) -> Iterator[str]:
    """Play every case that the model uses; after each act the chains are compared."""
    stage.pay("one", ("alice", "treasury", 5))
    yield "not mined"
    stage.pay("elsewhere", ("stranger", "bob", 3))
    stage.pay("two", ("bob", "treasury", 7))
    stage.block("one", "elsewhere", "two")
    yield "three in a block"
    stage.pay("many", ("alice", "treasury", 1), ("alice", "bob", 2), ("alice", "treasury", 3))
    stage.block("many")
    yield "three in a transaction"
    stage.authorize("named", "bob", 11)
    stage.block("named")
    yield "an authorization"
    stage.fail("failed", "stranger")
    stage.block("failed")
    yield "reverted"
    stage.pay("back", ("treasury", "alice", 2))
    stage.block("back")
    yield "money back"
    for _ in range(2 * EPOCH):
        stage.block()
    yield "final"
    stage.pay("moved", ("alice", "treasury", 13))
    stage.pay("gone", ("bob", "treasury", 17))
    stage.block("gone", "moved")
    stage.block()
    yield "before the reorganisation"
    stage.reorg(2, ("moved", 1))
    yield "one moved, one gone"
    stage.block("gone")
    yield "mined again"
    stage.reorg(3)
    yield "all gone"


@dataclass
class Look:
    """What the service's own reading of a chain shows, in names instead of hashes."""

    url: str
    session: aiohttp.ClientSession
    stage: Stage
    first: int = 0
    numbers: dict[str, int] = field(default_factory=dict)
    """A number for each block hash, in the order they were seen."""

    def __post_init__(self) -> None:
        self.chain = Chain(
            RpcPool([RpcEndpoint(self.url, self.session)]),
            chain_id=BASE_SEPOLIA,
            token=USDC_ADDRESS,
            payment_address=address("treasury"),
            min_confirmations=2,
            safe_above_micros=None,
        )

    async def all(self, names: Sequence[str]) -> dict[str, object]:
        """Return everything that can be seen."""
        return {
            "tips": await self._tips(),
            "blocks": await self._blocks(),
            "in": {name: await self._inspected(name, Way.IN) for name in names},
            "out": {name: await self._inspected(name, Way.OUT) for name in names},
            "logs": await self._logs(names),
            "refusals": await self._refusals(),
        }

    async def head(self) -> int:
        return (await self.chain.sweep(None, ())).tips.head.number

    async def _tips(self) -> list[int]:
        tips = (await self.chain.sweep(None, ())).tips
        final = (await self.chain.blocks([])).finalized_number
        assert tips.safe is not None
        return [tips.head.number - number for number in (tips.safe.number, final)]

    async def _blocks(self) -> list[tuple[int, int]]:
        head = await self.head()
        known = (await self.chain.blocks(range(self.first, head + 3))).hashes
        return [
            (head - n, self.numbers.setdefault(known[n], len(self.numbers))) for n in sorted(known)
        ]

    async def _inspected(self, name: str, way: Way) -> object:
        seen = await self.chain.inspect(self.stage.hash_of(name), way)
        finding = seen.finding
        transfers = [await self._shown(finding, each) for each in finding.transfers]
        nonces = sorted(seen.nonces.items())
        return finding.view, finding.depth, finding.finality, transfers, nonces

    async def _shown(self, finding: Finding, each: Transfer) -> object:
        block = (await self._block(each.block_number))["result"]
        assert (block["hash"], int(block["timestamp"], 16)) == (each.block_hash, each.block_time)
        place = (each.ordinal, each.log_index, finding.head_number - each.block_number)
        return place, each.sender, each.recipient, each.amount

    async def _logs(self, names: Sequence[str]) -> list[object]:
        swept = await self.chain.sweep(Span(self.first, None), [self.first])
        by_hash = {self.stage.hash_of(name): name for name in names}
        head = swept.tips.head.number
        return sorted(
            (g.way.name, by_hash[g.tx_hash], head - g.block_number, g.log_index, g.amount)
            for g in swept.glimpses
        )

    async def _refusals(self) -> list[object]:
        """Return what is answered to calls that ask too much."""
        head = await self.head()
        logs = {"address": USDC_ADDRESS, "topics": []}
        beyond = {**logs, "fromBlock": hex(head + 1), "toBlock": "latest"}
        upside = {**logs, "fromBlock": hex(head), "toBlock": hex(head - 1)}
        return [
            (await self._raw("eth_getLogs", beyond))["error"]["code"],
            (await self._raw("eth_getLogs", upside))["result"],
            (await self._block(head + 1))["result"],
            (await self._raw("eth_getTransactionReceipt", "0x" + "cd" * 32))["result"],
            (await self._raw("eth_noSuchThing"))["error"]["code"],
        ]

    async def _block(self, number: int) -> Any:  # noqa: ANN401 - raw JSON
        without_transactions = False
        return await self._raw("eth_getBlockByNumber", hex(number), without_transactions)

    async def _raw(self, method: str, *params: object) -> Any:  # noqa: ANN401 - raw JSON
        async with self.session.post(self.url, json=request(method, *params)) as response:
            return await response.json()


async def told(stage: Stage, url: str) -> list[tuple[str, dict[str, object]]]:
    """Play all acts on a chain and return what was seen after each."""
    async with aiohttp.ClientSession() as session:
        look = Look(url, session, stage)
        look.first = await look.head()
        return [(act, await look.all(names)) for act, names in _acts(stage)]


def _acts(stage: Stage) -> Iterator[tuple[str, list[str]]]:
    for act in acts(stage):
        yield act, list(stage.names())


async def test_the_scripted_chain_answers_as_a_real_node() -> None:
    with DevChain(slots_in_an_epoch=EPOCH) as anvil:
        expected = await told(OnAnvil(anvil), anvil.rpc_url)
    script = ScriptedChain(BASE_SEPOLIA, EPOCH, start_time=1_700_000_000)
    async with node_of(script) as url:
        seen = await told(OnScript(script), url)

    assert len(expected) == 11
    for (act, real), (_, fake) in zip(expected, seen, strict=True):
        for what, each in real.items():
            assert fake[what] == each, (act, what)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_reorganisation_keeps_the_height_and_changes_every_hash(depth: int) -> None:
    chain = ScriptedChain(BASE_SEPOLIA, EPOCH, start_time=1_700_000_000)
    for _ in range(5):
        chain.mine(0)
    before = list(chain.blocks)

    chain.reorg(depth)

    assert [b.number for b in chain.blocks] == [b.number for b in before]
    changed = [a.hash != b.hash for a, b in zip(before, chain.blocks, strict=True)]
    assert changed == [False] * (6 - depth) + [True] * depth
    assert all(b.parent == a.hash for a, b in zip(chain.blocks, chain.blocks[1:], strict=False))
