"""The buyer's last word, signed: a receipt for exactly these bytes, or a complaint.

Both name what was received by its hash. A receipt also names the newest head of the log that the
buyer keeps, so that the provider's log holds a copy of what this client has seen.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Literal

from api.client.delivery import Deliveries
from api.client.errors import AnswerRefused
from api.client.proven import Checked, ProvenClient
from api.client.times import stamp
from api.client.wallet import Wallet
from ledger.event import Event
from ledger.order_events import DeliveryConfirmed, DeliveryDisputed
from ledger.values import order_stream

Reason = Literal["not_delivered", "wrong_content", "other"]


class Receipts:
    """Confirms and disputes for one wallet at one service."""

    def __init__(self, client: ProvenClient, deliveries: Deliveries, wallet: Wallet) -> None:
        self._client = client
        self._deliveries = deliveries
        self._wallet = wallet

    async def confirm(self, order_id: str, content_hash: str, rating: int | None) -> None:
        """Sign for the bytes with this hash; a repeat changes nothing."""
        book = await self._client.book()
        head = self._client.heads.head(book.origin)
        now = stamp(self._client.clock)
        text = (
            f"Order: {order_id} | Received: true | Hash: {content_hash}"
            f" | Head: {head.size}:{head.root.hex()} | Timestamp: {now}"
        )
        confirmation: dict[str, object] = {"received": True, "content_hash": content_hash}
        if rating is not None:
            confirmation["satisfaction_rating"] = rating
        body = {
            **self._signed("delivery_confirmation", order_id, text),
            "timestamp": now,
            "confirmation": confirmation,
        }
        path = f"/ivxp/orders/{order_id}/confirm"
        answer = await self._client.post(path, body, repeatable=True)

        def is_ours(event: Event) -> bool:
            return isinstance(event, DeliveryConfirmed) and event.content_hash == content_hash

        await self._require(answer, order_id, is_ours)

    async def dispute(
        self, order_id: str, reason: Reason, statement: str | None, content_hash: str | None
    ) -> None:
        """Sign a complaint; a repeat changes nothing."""
        now = stamp(self._client.clock)
        digest = None if statement is None else sha256(statement.encode()).hexdigest()
        text = (
            f"Dispute delivery: {order_id} | Reason: {reason} | Hash: {content_hash or 'none'}"
            f" | Statement: {digest or 'none'} | Timestamp: {now}"
        )
        inner = {} if statement is None else {"statement": statement}
        body = {**self._signed("delivery_dispute", order_id, text), "dispute": inner}
        path = f"/ivxp/orders/{order_id}/dispute"
        answer = await self._client.post(path, body, repeatable=True)

        def is_ours(event: Event) -> bool:
            return isinstance(event, DeliveryDisputed) and event.reason == reason

        await self._require(answer, order_id, is_ours)

    def _signed(self, kind: str, order_id: str, text: str) -> dict[str, object]:
        return {
            "protocol": "IVXP/1.0",
            "message_type": kind,
            "order_id": order_id,
            "signed_message": text,
            "signature": self._wallet.sign_text(text),
        }

    async def _require(
        self, answer: Checked, order_id: str, is_ours: Callable[[Event], bool]
    ) -> None:
        """Ask the log for our word: a repeat is answered with the newest event, not with ours."""
        event = answer.event().event
        if event.stream == order_stream(order_id) and is_ours(event.event):
            return
        story = await self._deliveries.story(order_id)
        if not any(is_ours(placed.event.event) for placed in story.events):
            raise AnswerRefused("the service says that it recorded our word, and shows no event")
