"""Paying once: sign, keep, send; and whatever happens after that, send the same again.

A second transaction for one purchase is signed only when the first can never be mined any more:
when the chain's finalized state shows that its nonce is used up without it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Final

from api.client.errors import ClientError, PaymentImpossible, PaymentRefused
from api.client.payer import Payer, SignedTransfer
from api.client.purchases import Purchase, Purchases
from api.client.quote import Quote
from api.client.times import Clock

MARGIN_SECONDS: Final = 15
"""What is sent later than this before the quote's end might be mined too late."""


class Till:
    """Pays for purchases, one at a time: two transactions must not take one nonce."""

    def __init__(self, purchases: Purchases, payer: Payer, clock: Clock) -> None:
        self._purchases = purchases
        self._payer = payer
        self._clock = clock
        self._open = asyncio.Lock()

    async def pay(self, purchase: Purchase, quote: Quote) -> Purchase:
        """Return the purchase once a node has its transaction; repeatable."""
        async with self._open:
            signed = purchase.payment
            fate = await self._payer.look(signed) if signed is not None else "impossible"
            if signed is None or fate == "impossible":
                purchase = await self._sign(purchase, quote)
                signed, fate = _payment(purchase), "unknown"
            if fate == "reverted":
                raise PaymentRefused("the transfer was reverted; sign another once that is final")
            if fate == "unknown":
                self._require_time(quote)
                await self._payer.send(signed)
            return self._purchases.put(replace(purchase, state="sent"))

    async def _sign(self, purchase: Purchase, quote: Quote) -> Purchase:
        self._require_time(quote)
        await self._send_earlier(purchase)
        signed = await self._payer.sign(quote.transfer)
        # A crash before this leaves nothing; after it the transaction is known and is sent again.
        return self._purchases.put(replace(purchase, payment=signed, state="signed"))

    async def _send_earlier(self, purchase: Purchase) -> None:
        """Send what was signed before and perhaps never sent, so that its nonce is not given out.

        Whose time is over stays unsent: its nonce is free for others.
        """
        for earlier in self._purchases.in_state("signed"):
            recent = earlier.payment is not None and earlier.reference != purchase.reference
            if recent and self._clock() < earlier.pay_by * 1000:
                with suppress(PaymentImpossible):
                    await self._payer.send(_payment(earlier))

    def _require_time(self, quote: Quote) -> None:
        if self._clock() >= (quote.pay_by - MARGIN_SECONDS) * 1000:
            raise PaymentRefused("the time to pay is over; nothing was sent now")


def _payment(purchase: Purchase) -> SignedTransfer:
    if purchase.payment is None:
        raise ClientError("the purchase has no signed transaction")
    return purchase.payment
