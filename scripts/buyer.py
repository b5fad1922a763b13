"""A buyer's side of one order, with nothing but HTTP, a wallet and the chain."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

import aiohttp
from eth_account import Account
from eth_account.messages import encode_defunct

ANSWER_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer: its status, its JSON body, and the head of the ledger behind it."""

    status: int
    body: dict[str, object]
    ledger_head: str | None

    def require(self, status: int) -> dict[str, object]:
        """Return the body, or raise `RuntimeError` if the status is another one."""
        if self.status != status:
            raise RuntimeError(f"expected {status}, got {self.status}: {self.body}")
        return self.body


def utc_now() -> str:
    """Return the present time as clients of the protocol write it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Buyer:
    """One wallet that talks to one provider."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str, private_key: str) -> None:
        self._session = session
        self._base = base_url.rstrip("/")
        self._account = Account.from_key(private_key)
        self.private_key: Final = private_key
        self.address: Final[str] = self._account.address

    async def get(self, path: str) -> Answer:
        """GET a path of the provider."""
        return await self._call("GET", path, None)

    async def post(self, path: str, body: object) -> Answer:
        """POST JSON to a path of the provider."""
        return await self._call("POST", path, body)

    async def request(self, service: str, description: str, budget: float = 100) -> Answer:
        """Ask for a quote."""
        return await self.post(
            "/ivxp/request",
            {
                "protocol": "IVXP/1.0",
                "message_type": "service_request",
                "timestamp": utc_now(),
                "client_agent": {"name": "buyer", "wallet_address": self.address},
                "service_request": {
                    "type": service,
                    "description": description,
                    "budget_usdc": budget,
                },
            },
        )

    def notice(self, order_id: str, tx_hash: str, network: str) -> dict[str, object]:
        """Return a signed payment notice; sending it again sends the same bytes."""
        stamp = utc_now()
        text = f"Order: {order_id} | Payment: {tx_hash} | Timestamp: {stamp}"
        return {
            "protocol": "IVXP/1.0",
            "message_type": "delivery_request",
            "timestamp": stamp,
            "order_id": order_id,
            "payment_proof": {
                "tx_hash": tx_hash,
                "from_address": self.address,
                "network": network,
            },
            "signature": self.sign(text),
            "signed_message": text,
        }

    async def deliver(self, notice: dict[str, object]) -> Answer:
        """Give notice of a payment."""
        return await self.post("/ivxp/deliver", notice)

    async def confirm(self, order_id: str, content: str, rating: int | None = None) -> Answer:
        """Sign for exactly these bytes."""
        stamp, digest = utc_now(), sha256(content.encode()).hexdigest()
        text = f"Order: {order_id} | Received: true | Hash: {digest} | Timestamp: {stamp}"
        confirmation: dict[str, object] = {"received": True, "content_hash": digest}
        if rating is not None:
            confirmation["satisfaction_rating"] = rating
        return await self.post(
            f"/ivxp/orders/{order_id}/confirm",
            {
                "protocol": "IVXP/1.0",
                "message_type": "delivery_confirmation",
                "timestamp": stamp,
                "order_id": order_id,
                "confirmation": confirmation,
                "signature": self.sign(text),
                "signed_message": text,
            },
        )

    def sign(self, text: str) -> str:
        """Return the EIP-191 signature of a text, with 0x."""
        signed = self._account.sign_message(encode_defunct(text=text))
        return "0x" + str(signed.signature.hex()).removeprefix("0x")

    async def _call(self, method: str, path: str, body: object) -> Answer:
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        url = self._base + path
        async with self._session.request(method, url, json=body, timeout=timeout) as response:
            return Answer(
                response.status, await response.json(), response.headers.get("Ledger-Head")
            )
