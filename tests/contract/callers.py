"""Callers who sign in with their wallets, and orders that are paid without any client's notice."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from eth_account.messages import encode_defunct

from api.keys import LEDGER, RUNNER
from ledger.commands import RecordTransfers
from ledger.event import Transfer
from ledger.finding import ChainView, Finding
from tests.contract.kit import WAIT_SECONDS, Service
from tests.support.chain import account_named

OPERATOR, WORKER, OTHER_WORKER, AUDITOR, PARTY = (
    "operator",
    "worker",
    "worker two",
    "auditor",
    "party",
)
FAR_BLOCK = 1_000_000_000
ROLES: dict[str, Any] = {
    "operators": account_named(OPERATOR).address,
    "workers": f"{account_named(WORKER).address},{account_named(OTHER_WORKER).address}",
    "auditors": account_named(AUDITOR).address,
}
"""Settings that give the named wallets their roles; `PARTY` has none."""


@dataclass(frozen=True)
class Answer:
    """What came back; the body of what is no JSON is left out."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def outcome(self) -> tuple[int, str]:
        return self.status, str(self.body.get("error", ""))


@dataclass
class Caller:
    """One wallet that talks to a service; with a token once it has signed in."""

    service: Service
    name: str
    token: str | None = None

    @property
    def address(self) -> str:
        return str(account_named(self.name).address)

    def sign(self, text: str) -> str:
        signed = account_named(self.name).sign_message(encode_defunct(text=text))
        return "0x" + signed.signature.hex().removeprefix("0x")

    async def challenge(self, **headers: str) -> str:
        answer = await self.post("/v1/auth/challenge", {"address": self.address}, **headers)
        assert answer.status == 200, answer.body
        return str(answer.body["message"])

    async def present(self, message: str, signature: str | None = None, **headers: str) -> Answer:
        body = {"message": message, "signature": signature or self.sign(message)}
        return await self.post("/v1/auth/token", body, **headers)

    async def sign_in(self) -> Caller:
        answer = await self.present(await self.challenge())
        assert answer.status == 200, answer.body
        self.token = str(answer.body["token"])
        return self

    async def get(self, path: str) -> Answer:
        return await self.call("GET", path)

    async def post(self, path: str, body: object = None, **headers: str) -> Answer:
        return await self.call("POST", path, body, None, **headers)

    async def call(
        self, method: str, path: str, body: object = None, data: bytes | None = None, **headers: str
    ) -> Answer:
        """Send JSON, or `data` as it is; header names have `_` for `-`."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token is not None:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        async with self.service.session.request(
            method,
            self.service.url + path,
            json=body if data is None else None,
            data=data,
            headers=sent,
        ) as response:
            is_json = response.content_type == "application/json"
            found = await response.json() if is_json else {}
            return Answer(response.status, found, dict(response.headers))


async def signed_in(service: Service, name: str) -> Caller:
    return await Caller(service, name).sign_in()


async def found_paid(service: Service, kind: str, text: str = "the work", name: str = PARTY) -> str:
    """Return the id of an order in `paid`: only the watcher saw the payment.

    No chain that a service has in a test ever comes to that block, so its node never says that
    the transfer is gone, and no work is put off.
    """
    order_id = await service.quote(service.buyer(name), kind, text)
    ledger = service.app[LEDGER]
    order = await ledger.order(order_id)
    assert order is not None
    transfer = Transfer(
        chain=order.terms.chain,
        tx_hash="0x" + sha256(order_id.encode()).hexdigest(),
        ordinal=0,
        log_index=0,
        block_number=FAR_BLOCK,
        block_hash="0x" + "ab" * 32,
        block_time=order.terms.pay_by - 10,
        sender=order.client.rpartition(":")[2],
        recipient=order.terms.payment_address,
        amount=order.terms.price,
    )
    finding = Finding(
        transfer.tx_hash, ChainView.MINED, (transfer,), depth=3, head_number=FAR_BLOCK + 2
    )
    receipt = await ledger.execute(order_id, RecordTransfers(finding, None, ledger.clock()))
    assert await service.app[RUNNER].wait_for(receipt.stream.position, WAIT_SECONDS)
    return order_id
