"""A service whose reading of the chain a test drives by hand, round by round."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from eth_account.signers.local import LocalAccount

from api.keys import LEDGER
from api.workers.chain_loop import follow_chain
from api.workers.watcher import WATCHER
from ledger.event import Event, Transfer
from ledger.log_events import PaymentUnattributed
from ledger.matching import nonce_of
from ledger.order import Order
from ledger.scan import Scan
from ledger.service import Clock, system_clock
from scripts.buyer import Answer, Buyer
from scripts.devchain import DevChain, encode_call
from tests.contract.kit import ECHO_MICROS, NETWORK, Service, serving
from tests.support.chain import TRANSFER_TOPIC, account_named, funded_account

SAFE_AFTER = 2
"""Blocks after which one is safe, on the chains of these tests."""


@dataclass
class Shop:
    """A provider with a payment address of its own on a chain that tests share."""

    service: Service
    chain: DevChain
    treasury: LocalAccount

    async def look(self) -> None:
        """Read the chain up to its head, once."""
        await follow_chain(self.service.app)

    async def look_when_safe(self) -> None:
        """Read the chain when everything that was mined so far is safe."""
        self.chain.mine(SAFE_AFTER)
        await self.look()

    def buyer(self, name: str, micros: int = 10_000_000) -> Buyer:
        """Return a buyer whose wallet holds USDC."""
        funded_account(self.chain, name, micros)
        return self.service.buyer(name)

    async def quote(self, buyer: Buyer) -> str:
        return await self.service.quote(buyer)

    def pay(self, buyer: Buyer, micros: int = ECHO_MICROS) -> str:
        return self.chain.transfer(buyer.private_key, self.treasury.address, micros)

    def pay_by_name(self, name: str, order_id: str, micros: int = ECHO_MICROS) -> str:
        """Have a relayer send an authorization that names the order by its nonce."""
        nonce = bytes.fromhex(nonce_of(order_id)[2:])
        return self.authorized(name, micros, nonce)

    def authorized(self, name: str, micros: int, nonce: bytes) -> str:
        payer = account_named(name)
        relayer = funded_account(self.chain, name + ": relayer", 0)
        data = authorization(self.chain, payer, self.treasury.address, micros, nonce)
        return self.chain.send(relayer.key, to=self.chain.usdc_address, data=data)

    def give_back(self, buyer: Buyer, micros: int) -> str:
        """Send USDC from the payment address to a buyer."""
        self.chain.fund(self.treasury.address, 0)
        return self.chain.transfer(self.treasury.key, buyer.address, micros)

    async def notice(self, buyer: Buyer, order_id: str, tx_hash: str) -> Answer:
        return await buyer.deliver(buyer.notice(order_id, tx_hash, NETWORK))

    def kinds(self, order_id: str) -> list[str]:
        return self.service.kinds(order_id)

    def events(self, order_id: str) -> list[Event]:
        placed = self.service.app[LEDGER].read_order(order_id)
        return [each.signed.event for each in placed]

    async def order(self, order_id: str) -> Order:
        order = await self.service.app[LEDGER].order(order_id)
        assert order is not None
        return order

    @property
    def scan(self) -> Scan:
        scan = self.service.app[WATCHER].scan
        assert scan is not None
        return scan

    def unattributed(self) -> list[Transfer]:
        """Return the transfers that the log says nobody can be named for, in order."""
        ledger = self.service.app[LEDGER]
        events = [placed.signed.event for placed in ledger.read(after=0, limit=10_000)]
        return [
            t for event in events if isinstance(event, PaymentUnattributed) for t in event.transfers
        ]

    def incoming(self) -> list[tuple[str, int]]:
        """Return transaction and amount of each transfer to the payment address, from the chain."""
        bound = self.service.app[LEDGER].log_state.chain
        assert bound is not None
        topic = "0x" + "0" * 24 + self.treasury.address[2:].lower()
        query = {
            "fromBlock": hex(bound.block_number),
            "toBlock": hex(self.scan.covered),
            "address": self.chain.usdc_address,
            "topics": [TRANSFER_TOPIC, None, topic],
        }
        logs = self.chain.rpc("eth_getLogs", [query])
        return [(log["transactionHash"], int(log["data"], 16)) for log in logs]


@asynccontextmanager
async def open_shop(
    folder: Path,
    chain: DevChain,
    name: str,
    *,
    clock: Clock = system_clock,
    **changes: object,
) -> AsyncIterator[Shop]:
    """Run a provider that reads the chain only when the test says so."""
    treasury = account_named(name + ": treasury")
    chain.mine()
    async with serving(
        folder,
        chain,
        clock=clock,
        prepare=lambda _app: None,
        payment_address=treasury.address,
        scan_interval=0,
        **changes,
    ) as service:
        yield Shop(service, chain, treasury)


def authorization(
    chain: DevChain, payer: LocalAccount, payee: str, micros: int, nonce: bytes
) -> str:
    """Return the call data of an EIP-3009 transfer that the payer signed."""
    fields = ["from", "to", "value", "validAfter", "validBefore", "nonce"]
    kinds = ["address", "address", "uint256", "uint256", "uint256", "bytes32"]
    values = [payer.address, payee, micros, 0, 2**40, nonce]
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
