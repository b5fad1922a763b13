"""The older Python client: naive times, two stamps, always base-mainnet, Markdown in `body`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from tests.clients.wallet import Clock, Pause, Wallet, iso_naive_z, micros_of, utc_clock
from tests.clients.wire import Exchange, encode, send

NETWORK: Final = "base-mainnet"
DEFAULT_RECEIVER: Final = "http://localhost:6066/ivxp/receive"
POLLS: Final = 20
POLL_SECONDS: Final = 30.0
END: Final = frozenset({"delivered", "delivery_failed"})


class LegacyError(Exception):
    """The client prints this and gives up; `status` is the last answer's."""

    def __init__(self, step: str, answer: Exchange) -> None:
        super().__init__(f"{step}: {answer.status} {answer.body.decode(errors='replace')}")
        self.status = answer.status


@dataclass
class LegacyClient:
    """One wallet. `bare` says how its library writes signatures: without `0x` since hexbytes 1.

    Members that are missing in an answer are a `KeyError`, as in the client itself.
    """

    session: aiohttp.ClientSession
    base_url: str
    wallet: Wallet
    pause: Pause
    receiver: str = DEFAULT_RECEIVER
    bare: bool = True
    now: Clock = utc_clock
    statuses: list[str] = field(default_factory=list)
    failed_downloads: list[str] = field(default_factory=list)

    async def get_catalog(self) -> dict[str, Any]:
        answer = await self._get("/ivxp/catalog")
        if answer.status != 200:
            raise LegacyError("catalog", answer)
        catalog: dict[str, Any] = answer.json()
        return catalog

    async def request_service(
        self, service: str, description: str, budget_usdc: int
    ) -> dict[str, Any]:
        answer = await self._post(
            "/ivxp/request",
            {
                "protocol": "IVXP/1.0",
                "message_type": "service_request",
                "timestamp": self._stamp(),
                "client_agent": {
                    "name": "IVXP client",
                    "wallet_address": self.wallet.address,
                    "contact_endpoint": self.receiver,
                },
                "service_request": {
                    "type": service,
                    "description": description,
                    "budget_usdc": budget_usdc,
                    "delivery_format": "markdown",
                },
            },
        )
        if answer.status != 200:
            raise LegacyError("request", answer)
        quote: dict[str, Any] = answer.json()
        return quote

    async def pay(self, quote: dict[str, Any]) -> str:
        terms = quote["quote"]
        return await self.wallet.pay(terms["payment_address"], micros_of(terms["price_usdc"]))

    def notice(self, order_id: str, tx_hash: str) -> dict[str, Any]:
        """Return the payment notice; its body is stamped later than its signed text."""
        text = f"Order: {order_id} | Payment: {tx_hash} | Timestamp: {self._stamp()}"
        signature = self.wallet.sign_bare(text) if self.bare else self.wallet.sign(text)
        return {
            "protocol": "IVXP/1.0",
            "message_type": "delivery_request",
            "timestamp": self._stamp(),
            "order_id": order_id,
            "payment_proof": {
                "tx_hash": tx_hash,
                "from_address": self.wallet.address,
                "network": NETWORK,
            },
            "delivery_endpoint": self.receiver,
            "signature": signature,
            "signed_message": text,
        }

    async def request_delivery(self, notice: dict[str, Any]) -> None:
        answer = await self._post("/ivxp/deliver", notice)
        if answer.status != 200:
            raise LegacyError("deliver", answer)
        body = answer.json()
        _ = body["status"], body["message"]

    async def status(self, order_id: str) -> str:
        answer = await self._get(f"/ivxp/status/{order_id}")
        if answer.status != 200:
            raise LegacyError("status", answer)
        body = answer.json()
        _ = body["service_type"], body["price_usdc"], body["created_at"]
        return str(body["status"])

    async def poll_and_download(self, order_id: str) -> dict[str, Any]:
        """Ask until the order has an end and its content could be read."""
        for _ in range(POLLS):
            self.statuses.append(await self.status(order_id))
            if self.statuses[-1] in END:
                try:
                    return await self.download(order_id)
                except (LegacyError, KeyError, TypeError) as error:
                    self.failed_downloads.append(repr(error))
            await self.pause(POLL_SECONDS)
        raise TimeoutError(order_id)

    async def download(self, order_id: str) -> dict[str, Any]:
        """Return type, format and the words; 202 is "not ready", all else but 200 a failure."""
        answer = await self._get(f"/ivxp/download/{order_id}")
        if answer.status != 200:
            raise LegacyError("download", answer)
        body = answer.json()
        _ = body["order_id"]
        deliverable = body["deliverable"]
        kind, form, content = deliverable["type"], deliverable["format"], deliverable["content"]
        words = content["body"] if form == "markdown" else content
        return {"type": kind, "format": form, "words": words}

    def _stamp(self) -> str:
        return iso_naive_z(self.now())

    async def _get(self, path: str) -> Exchange:
        return await send(self.session, "GET", self.base_url + path, {"Accept": "*/*"})

    async def _post(self, path: str, body: object) -> Exchange:
        headers = {"Accept": "*/*", "Content-Type": "application/json"}
        return await send(self.session, "POST", self.base_url + path, headers, encode(body))
