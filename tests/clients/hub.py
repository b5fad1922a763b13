"""The hub: its page in a browser, which orders, and its server, which lists providers."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final
from urllib.parse import quote as percent_encoded
from urllib.parse import unquote_to_bytes

import aiohttp

from tests.clients import checks as c
from tests.clients.browser import Browser
from tests.clients.wallet import (
    Clock,
    Pause,
    Wallet,
    epoch_millis,
    iso_millis,
    micros_of,
    signer_of,
    utc_clock,
)
from tests.clients.wire import Exchange, encode, send

ZERO_ADDRESS: Final = "0x" + "0" * 40
DEFAULT_BUDGET: Final = 1
MAX_POLLS: Final = 20
MAX_DELAY_SECONDS: Final = 30.0
SERVER_SECONDS: Final = 5
WORDS: Final = frozenset({"quoted", "paid", "processing", "delivered", "failed", "delivery_failed"})
END: Final = frozenset({"delivered", "failed", "delivery_failed"})

_BASE64: Final = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_DATA_URL: Final = re.compile(r"data:([^,]*?)(;base64)?,(.*)", re.DOTALL)


class HubError(Exception):
    """What the page shows instead of a result; `status` is the last answer's."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


@dataclass
class Shown:
    """A deliverable as the page shows it: `failed` where the hash is another one."""

    content: bytes
    content_type: str
    failed: bool
    file_name: str | None


@dataclass
class HubPage:
    """One visitor at one provider; without a wallet at first, if `wallet` is connected late."""

    browser: Browser
    base_url: str
    pause: Pause
    wallet: Wallet | None = None
    now: Clock = utc_clock
    calls: list[str] = field(default_factory=list)

    async def request_quote(
        self, service: str, inputs: dict[str, Any], budget_usdc: float = DEFAULT_BUDGET
    ) -> dict[str, Any]:
        address = self.wallet.address if self.wallet else ZERO_ADDRESS
        body = {
            "protocol": "IVXP/1.0",
            "message_type": "service_request",
            "timestamp": iso_millis(self.now()),
            "client_agent": {"name": "ivxp-hub", "wallet_address": address},
            "service_request": {
                "type": service,
                "description": json.dumps(inputs, ensure_ascii=False, separators=(",", ":")),
                "budget_usdc": budget_usdc,
            },
        }
        found = c.members(
            _json(await self._call("POST", "/ivxp/request", body)),
            "quote",
            {"order_id": c.text, "quote": c.anything},
        )
        required: dict[str, c.Check] = {
            "price_usdc": c.positive,
            "estimated_delivery": c.text,
            "payment_address": c.address,
        }
        found["quote"] = c.members(found["quote"], "quote.quote", required)
        return found

    async def pay(self, quote: dict[str, Any]) -> str:
        """Approve and transfer the exact amount; return the hash of the transfer."""
        terms = quote["quote"]
        wallet = self._connected()
        return await wallet.approve_and_pay(
            terms["payment_address"], micros_of(terms["price_usdc"])
        )

    def signed_identity(self, order_id: str) -> dict[str, str]:
        """Return the signed text: it names the wallet, and no transaction."""
        wallet = self._connected()
        text = (
            f"IVXP Identity Verification | Order: {order_id} | Address: {wallet.address}"
            f" | Timestamp: {epoch_millis(self.now())}"
        )
        return {"message": text, "sig": wallet.sign(text), "signer": wallet.address}

    async def give_notice(self, order_id: str, tx_hash: str, network: str) -> dict[str, Any]:
        """Tell of the payment; `network` is `base` or `base-sepolia`. Only 404 has a second try."""
        signed = self.signed_identity(order_id)
        payment = {"tx_hash": tx_hash, "network": network}
        body = {"order_id": order_id, "payment": payment, "signature": signed}
        answer = await self._call("POST", f"/ivxp/orders/{_quoted(order_id)}/delivery", body)
        if answer.status == 404:
            body = self._wire_notice(order_id, payment, signed)
            answer = await self._call("POST", "/ivxp/deliver", body)
        return c.members(
            _json(answer), "acceptance", {"order_id": c.any_text, "status": c.any_text}
        )

    def _wire_notice(
        self, order_id: str, payment: dict[str, str], signed: dict[str, str]
    ) -> dict[str, Any]:
        network = {"base": "base-mainnet"}.get(payment["network"], payment["network"])
        return {
            "protocol": "IVXP/1.0",
            "message_type": "delivery_request",
            "timestamp": iso_millis(self.now()),
            "order_id": order_id,
            "payment_proof": {
                "tx_hash": payment["tx_hash"],
                "from_address": signed["signer"],
                "network": network,
            },
            "signature": signed["sig"],
            "signed_message": signed["message"],
        }

    async def status(self, order_id: str) -> dict[str, Any]:
        answer = await self._get(f"/ivxp/orders/{_quoted(order_id)}", "/ivxp/status", order_id)
        return c.members(_json(answer), "status", {"order_id": c.any_text, "status": c.any_text})

    async def wait_for_end(self, order_id: str) -> str:
        """Poll; a word that the hub does not know is passed over."""
        delay = 1.0
        for _ in range(MAX_POLLS):
            word = str((await self.status(order_id))["status"])
            if word in WORDS and word in END:
                return word
            await self.pause(delay)
            delay = min(2 * delay, MAX_DELAY_SECONDS)
        raise HubError(0, f"no end after {MAX_POLLS} questions")

    async def download(self, order_id: str) -> Shown:
        first = f"/ivxp/orders/{_quoted(order_id)}/deliverable"
        return shown(_json(await self._get(first, "/ivxp/download", order_id)))

    async def _get(self, path: str, fallback: str, order_id: str) -> Exchange:
        answer = await self._call("GET", path)
        if answer.status == 404:
            return await self._call("GET", f"{fallback}/{_quoted(order_id)}")
        return answer

    async def _call(self, method: str, path: str, body: object = None) -> Exchange:
        self.calls.append(f"{method} {path}")
        headers = {"Accept": "application/json"}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = encode(body)
        return await self.browser.fetch(method, self.base_url + path, headers, data)

    def _connected(self) -> Wallet:
        if self.wallet is None:
            raise HubError(0, "connect a wallet")
        return self.wallet


def shown(body: object) -> Shown:
    """Decode and check a deliverable as the page does."""
    required: dict[str, c.Check] = {
        "content": c.anything,
        "content_type": c.any_text,
        "content_hash": c.any_text,
    }
    found = c.members(body, "download", required, {"file_name": c.any_text})
    content = _decoded(found["content"], found["content_type"])
    said = found["content_hash"].removeprefix("sha256:")
    failed = sha256(content).hexdigest() != said
    return Shown(content, found["content_type"], failed, found.get("file_name"))


def _decoded(content: object, content_type: str) -> bytes:
    """Return the bytes that are hashed: what looks like base64 is decoded, unless it is a text."""
    if isinstance(content, list):
        return bytes(content)
    c.require(isinstance(content, str), "download.content", "text or a list of bytes")
    text = str(content)
    url = _DATA_URL.fullmatch(text)
    if url:
        return b64decode(url[3]) if url[2] else unquote_to_bytes(url[3])
    media_type = content_type.partition(";")[0].strip().lower()
    is_text = media_type.startswith("text/") or media_type in {
        "application/json",
        "application/xml",
    }
    if not is_text and text and _BASE64.fullmatch(text):
        return b64decode(text)
    return text.encode()


def _json(answer: Exchange) -> object:
    if not answer.ok:
        raise HubError(answer.status, answer.body.decode(errors="replace"))
    return answer.json()


def _quoted(order_id: str) -> str:
    return percent_encoded(order_id, safe="-_.!~*'()")


@dataclass
class HubServer:
    """The hub's own server: before it lists a provider it looks at the catalog and the wallet."""

    session: aiohttp.ClientSession
    base_url: str

    async def is_alive(self) -> bool:
        answer = await self._send("HEAD", "/ivxp/catalog", {"Accept": "*/*"})
        return answer.ok

    async def catalog(self) -> dict[str, Any]:
        answer = await self._send("GET", "/ivxp/catalog", {"Accept": "application/json"})
        body = _json(answer)
        c.require(isinstance(body, dict), "catalog", "an object")
        found: dict[str, Any] = dict(body)  # type: ignore[call-overload]
        c.require(isinstance(found.get("services"), list), "catalog.services", "a list")
        return found

    async def is_claimed_by(self, wallet_address: str, challenge: str) -> bool:
        """Ask the provider to sign; the signer is the claiming wallet, letter by letter."""
        body = encode({"challenge": challenge, "wallet_address": wallet_address})
        headers = {"Accept": "*/*", "Content-Type": "application/json"}
        answer = await self._send("POST", "/.well-known/ivxp-verify", headers, body)
        if not answer.ok:
            return False
        required: dict[str, c.Check] = {
            "challenge": c.exactly(challenge),
            "signer": c.exactly(wallet_address),
            "signature": c.signature,
        }
        found = c.members(answer.json(), "claim", required)
        return signer_of(challenge, found["signature"]).lower() == wallet_address.lower()

    async def _send(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None = None
    ) -> Exchange:
        url = self.base_url + path
        return await send(self.session, method, url, headers, body, timeout_seconds=SERVER_SECONDS)
