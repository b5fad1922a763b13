"""Telling the provider of a payment, as often as it takes: pending is not refused.

The same bytes are sent again. They are signed anew only where the service says that it never kept
them and that they are too old by now.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import orjson

from api.client.errors import AnswerRefused, NotYet, OutcomeUnknown, ServiceError, Unreachable
from api.client.proven import Checked, ProvenClient
from api.client.purchases import Purchase, Purchases
from api.client.quote import Quote
from api.client.times import stamp
from api.client.wallet import Wallet
from ledger.values import order_stream

PAUSE_SECONDS: Final = 2.0
_TOO_OLD: Final = "INVALID_TIMESTAMP"


class Notices:
    """Gives notice of payments to one service."""

    def __init__(self, client: ProvenClient, purchases: Purchases, wallet: Wallet) -> None:
        self._client = client
        self._purchases = purchases
        self._wallet = wallet

    async def give(self, purchase: Purchase, quote: Quote, patience_seconds: float) -> Purchase:
        """Return the purchase once its payment was accepted; `NotYet` leaves it open."""
        ends = self._client.clock() + patience_seconds * 1000
        signed_now = purchase.notice is None
        if signed_now:
            purchase = self._sign(purchase, quote)
        while True:
            pause = PAUSE_SECONDS
            try:
                answer = await self._send(purchase)
            except ServiceError as error:
                if error.code == _TOO_OLD and not signed_now:
                    purchase, signed_now = self._sign(purchase, quote), True
                    continue
                if not error.retryable:
                    raise
                pause = error.retry_after or pause
            except (OutcomeUnknown, Unreachable):
                pass  # the money is gone or not; the same notice finds out
            else:
                _require_accepted(answer, purchase)
                return self._purchases.put(replace(purchase, state="accepted"))
            if self._client.clock() >= ends:
                raise NotYet("the payment is not proven yet: it was kept, and nobody pays again")
            await self._client.http.sleep(pause)

    async def _send(self, purchase: Purchase) -> Checked:
        path = f"/ivxp/orders/{purchase.order}/payment"
        return await self._client.post(path, orjson.dumps(purchase.notice), repeatable=True)

    def _sign(self, purchase: Purchase, quote: Quote) -> Purchase:
        if purchase.payment is None:
            raise LookupError("there is no payment to give notice of")
        now, tx_hash = stamp(self._client.clock), purchase.payment.tx_hash
        text = f"Order: {purchase.order} | Payment: {tx_hash} | Timestamp: {now}"
        notice: dict[str, object] = {
            "protocol": "IVXP/1.0",
            "message_type": "payment_proof",
            "timestamp": now,
            "order_id": purchase.order,
            "payment": {"tx_hash": tx_hash, "network": quote.network},
            "signature": {
                "message": text,
                "sig": self._wallet.sign_text(text),
                "signer": self._wallet.address,
            },
        }
        return self._purchases.put(replace(purchase, notice=notice))


def _require_accepted(answer: Checked, purchase: Purchase) -> None:
    proven = answer.event()
    if answer.body.get("status") != "accepted" or answer.body.get("order_id") != purchase.order:
        raise AnswerRefused("the answer to the notice is none to it")
    if proven.event.stream != order_stream(purchase.order) or proven.event.seq == 1:
        raise AnswerRefused("the answer to the notice proves no event that follows the quote")
