"""Who talks to the provider: clients with wallets, workers and the operator. Signed by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal

from coincurve import PrivateKey
from eth_utils.crypto import keccak

from ledger.values import UnixMs, iso_of
from tests.model.wire import Ask, post

NETWORK = "base-sepolia"
Clock = Callable[[], UnixMs]
Route = Literal["deliver", "payment", "delivery"]
NoticeText = Literal["plain", "nonce", "identity"]
ReceiptShape = Literal["documents", "sdk", "oldest"]


@dataclass
class Wallet:
    """A key that signs as `personal_sign` does."""

    name: str
    clock: Clock
    _key: PrivateKey = field(init=False)
    address: str = field(init=False)

    def __post_init__(self) -> None:
        secret = keccak(text=f"model wallet: {self.name}")
        self._key = PrivateKey(secret)
        public = self._key.public_key.format(compressed=False)[1:]
        self.address = "0x" + keccak(public)[-20:].hex()

    def sign(self, text: str) -> str:
        message = text.encode()
        digest = keccak(b"\x19Ethereum Signed Message:\n%d%b" % (len(message), message))
        raw = self._key.sign_recoverable(digest, hasher=None)
        return f"0x{raw[:64].hex()}{raw[64] + 27:02x}"

    @property
    def stamp(self) -> str:
        return iso_of(self.clock())


class Client(Wallet):
    """Asks for quotes, gives notice of payments, signs for what it got or complains."""

    def quote(
        self, service: str, *, description: str = "the work", contact: str | None = None
    ) -> Ask:
        agent = {"name": "client", "wallet_address": self.address}
        return post(
            "/ivxp/request",
            {
                "protocol": "IVXP/1.0",
                "message_type": "service_request",
                "timestamp": self.stamp,
                "client_agent": agent | ({"contact_endpoint": contact} if contact else {}),
                "service_request": {
                    "type": service,
                    "description": description,
                    "budget_usdc": 10,
                },
            },
        )

    def notice(
        self,
        order_id: str,
        tx: str,
        *,
        route: Route = "deliver",
        form: NoticeText = "plain",
        nonce: str | None = None,
        endpoint: str | None = None,
    ) -> Ask:
        """Return a payment notice in one of the three bodies and with one of the three texts."""
        text = self.notice_text(order_id, tx, form=form, nonce=nonce)
        return self.notice_with(text, order_id, tx, route=route, endpoint=endpoint)

    def notice_with(
        self, text: str, order_id: str, tx: str, *, route: Route, endpoint: str | None = None
    ) -> Ask:
        more = {"delivery_endpoint": endpoint} if endpoint else {}
        if route == "deliver":
            proof = {"tx_hash": tx, "from_address": self.address, "network": NETWORK}
            body = {
                "protocol": "IVXP/1.0",
                "message_type": "delivery_request",
                "order_id": order_id,
                "payment_proof": proof,
                "signed_message": text,
                "signature": self.sign(text),
            }
            return post("/ivxp/deliver", body | more)
        body = {
            "protocol": "IVXP/1.0",
            "order_id": order_id,
            "payment": {"tx_hash": tx, "network": NETWORK, "amount_usdc": "0.100000"},
            "signature": {"message": text, "sig": self.sign(text), "signer": self.address},
        }
        return post(f"/ivxp/orders/{order_id}/{route}", body | more)

    def notice_text(
        self, order_id: str, tx: str, *, form: NoticeText, nonce: str | None = None
    ) -> str:
        if form == "identity":
            who = f"Order: {order_id} | Address: {self.address} | Timestamp: {self.clock()}"
            return f"IVXP Identity Verification | {who}"
        what = f"Order: {order_id} | Payment: {tx}"
        if form == "plain":
            return f"{what} | Timestamp: {self.stamp}"
        return f"IVXP-DELIVER | {what} | Nonce: {nonce} | Timestamp: {self.stamp}"

    def receipt(
        self,
        order_id: str,
        content: bytes | None,
        *,
        shape: ReceiptShape = "documents",
        rating: int | None = None,
        received: bool | None = None,
        alias: bool = False,
        protocol: str = "IVXP/1.0",
    ) -> Ask:
        """Return a receipt; the shapes of the SDK and of the oldest clients name no hash."""
        text = self.receipt_text(order_id, content, shape)
        inner: dict[str, object] = {} if rating is None else {"satisfaction_rating": rating}
        if received is not None:
            inner["received"] = received
        outer: dict[str, object] = {"protocol": protocol, "order_id": order_id}
        if shape == "sdk":
            inner |= {"message": text, "signature": self.sign(text), "signer": self.address}
        else:
            outer |= {"signed_message": text, "signature": self.sign(text)}
        if shape == "oldest":
            outer["status"] = "received"
        path = "/ivxp/confirm" if alias else f"/ivxp/orders/{order_id}/confirm"
        return post(path, {**outer, "confirmation": inner})

    def receipt_text(self, order_id: str, content: bytes | None, shape: ReceiptShape) -> str:
        match shape:
            case "sdk":
                return f"Confirm delivery: {order_id} | Timestamp: {self.stamp}"
            case "oldest":
                return f"Order: {order_id} | Received: {self.stamp} | Satisfied: true"
            case "documents":
                digest = sha256(content or b"").hexdigest()
                what = f"Order: {order_id} | Received: true | Hash: {digest}"
                return f"{what} | Timestamp: {self.stamp}"

    def dispute(
        self, order_id: str, *, reason: str = "other", nested: bool = True, said: str | None = None
    ) -> Ask:
        text = self.dispute_text(order_id, reason=reason, said=said)
        inner: dict[str, object] = {"statement": said} if said else {}
        outer: dict[str, object] = {"protocol": "IVXP/1.0", "order_id": order_id}
        if nested:
            inner |= {"message": text, "signature": self.sign(text)}
        else:
            outer |= {"signed_message": text, "signature": self.sign(text)}
        return post(f"/ivxp/orders/{order_id}/dispute", {**outer, "dispute": inner})

    def dispute_text(self, order_id: str, *, reason: str, said: str | None = None) -> str:
        named = sha256(said.encode()).hexdigest() if said else "none"
        return (
            f"Dispute delivery: {order_id} | Reason: {reason} | Hash: none"
            f" | Statement: {named} | Timestamp: {self.stamp}"
        )

    def withdrawal(self, order_id: str) -> Ask:
        return signed(self, order_id, "withdraw", self.withdrawal_text(order_id))

    def withdrawal_text(self, order_id: str) -> str:
        return f"Withdraw dispute: {order_id} | Timestamp: {self.stamp}"


class Arbiter(Wallet):
    """Whom the quotes name to rule on disputes."""

    def ruling(self, order_id: str, outcome: str, micros: int) -> Ask:
        return signed(self, order_id, "ruling", self.ruling_text(order_id, outcome, micros))

    def ruling_text(self, order_id: str, outcome: str, micros: int) -> str:
        return (
            f"Rule dispute: {order_id} | Outcome: {outcome} | Amount: {micros}"
            f" | Timestamp: {self.stamp}"
        )


def signed(wallet: Wallet, order_id: str, act: str, text: str) -> Ask:
    """Return what a wallet says of a dispute."""
    said = {"signed_message": text, "signature": wallet.sign(text)}
    body = {"protocol": "IVXP/1.0", "order_id": order_id, **said}
    return post(f"/ivxp/orders/{order_id}/dispute/{act}", body)


@dataclass
class Staff(Wallet):
    """A worker or the operator, once signed in."""

    token: str | None = None

    def asks(self, path: str, body: object) -> Ask:
        return post(path, body, self.token)

    def start(self, order_id: str, worker: str = "") -> Ask:
        return self.asks(f"/v1/work/{order_id}/start", {"worker": worker})

    def retry(self, order_id: str, worker: str = "") -> Ask:
        return self.asks(f"/v1/work/{order_id}/retry", {"worker": worker})

    def hand_in(self, order_id: str, content: bytes) -> Ask:
        return self.asks(f"/v1/work/{order_id}/deliverable", {"content": content.decode()})

    def fail(self, order_id: str, worker: str = "") -> Ask:
        return self.asks(f"/v1/work/{order_id}/fail", {"reason": "no luck", "worker": worker})

    def answer(self, order_id: str, position: str = "rejects") -> Ask:
        return self.asks(f"/v1/orders/{order_id}/dispute/answer", {"position": position})

    def refund(self, order_id: str, tx: str) -> Ask:
        return self.asks(f"/v1/orders/{order_id}/refund", {"tx_hash": tx})

    def erase(self, order_id: str, *fields: str) -> Ask:
        """Return the erasure of some content, or of all."""
        named = {"fields": list(fields)} if fields else {}
        return self.asks(f"/v1/orders/{order_id}/erase", {"reason": "request", **named})
