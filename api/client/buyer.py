"""A buyer: catalog, quote, payment, delivery, receipt, each step checked and kept.

Whatever step a crash interrupts, the same call made again goes on there: with the same order, the
same transaction, the same words.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Final

import aiohttp

from api.client.delivery import Deliverable, Deliveries
from api.client.errors import OrderEnded
from api.client.follow import Status, wait_for
from api.client.heads import Heads
from api.client.http import HttpClient
from api.client.logkeys import ANYBODY
from api.client.notice import Notices
from api.client.payer import Payer, UsdcPayer
from api.client.paying import Till
from api.client.proven import ProvenClient
from api.client.purchases import OPEN, Purchase, Purchases
from api.client.quote import Quote, checked_quote, quote_of_entry
from api.client.receipts import Reason, Receipts
from api.client.shapes import parsed
from api.client.signin import SignIn
from api.client.store import Store
from api.client.times import Clock, system_clock
from api.client.wallet import LocalWallet, Wallet
from api.ivxp.responses import CatalogResponse
from ledger.audit_keys import Trust
from ledger.rpc import RpcEndpoint
from ledger.values import micros_of_usdc, usdc_number

PATIENCE_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class Bought:
    """A finished purchase: what was paid, in which transaction, for which content."""

    quote: Quote
    tx_hash: str
    deliverable: Deliverable


class Buyer:
    """One wallet that buys from one service, with a store that survives the process."""

    def __init__(
        self,
        http: HttpClient,
        store: Store,
        wallet: Wallet,
        payer: Payer,
        *,
        trust: Trust = ANYBODY,
        clock: Clock = system_clock,
        name: str = "buyer",
        domain: str | None = None,
    ) -> None:
        """`trust` names the log's keys, if they are known from elsewhere.

        `domain` is the host to sign in for, if it is not that of the base URL.
        """
        self.purchases: Final = Purchases(store)
        self.heads: Final = Heads(store)
        self.client: Final = ProvenClient(http, self.heads, trust=trust, clock=clock)
        self.address: Final = wallet.address
        self._name = name
        self._till = Till(self.purchases, payer, clock)
        self._notices = Notices(self.client, self.purchases, wallet)
        sign_in = SignIn(http, wallet, clock=clock, domain=domain)
        self._deliveries = Deliveries(self.client, sign_in)
        self._receipts = Receipts(self.client, self._deliveries, wallet)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        url: str,
        store: Path | str,
        private_key: str | bytes,
        rpc_url: str,
        *,
        trust: Trust = ANYBODY,
    ) -> AsyncIterator[Buyer]:
        """Run a buyer with a local key for the length of a block."""
        wallet = LocalWallet(private_key)
        with Store(store) as kept:
            async with aiohttp.ClientSession() as session:
                payer = UsdcPayer(RpcEndpoint(rpc_url, session), wallet)
                yield cls(HttpClient(url, session), kept, wallet, payer, trust=trust)

    async def catalog(self) -> CatalogResponse:
        """Return what is sold."""
        return parsed(CatalogResponse, (await self.client.get("/ivxp/catalog")).body)

    async def quote(
        self,
        service: str,
        description: str,
        *,
        reference: str | None = None,
        budget_usdc: Decimal | int | str | None = None,
        arbiter: str | None = None,
        delivery_format: str | None = None,
    ) -> Quote:
        """Return a quote whose signed terms were checked; the same reference gets the same one.

        Without a budget, no more than the price in the catalog is accepted.
        """
        purchase = self.purchases.find(reference) if reference is not None else None
        wanted: dict[str, object] = {"type": service, "description": description}
        if delivery_format is not None:
            wanted["delivery_format"] = delivery_format
        if purchase is None:
            micros = await self._budget(service, budget_usdc)
            purchase = self._begin(wanted, micros, reference, arbiter)
        elif not _asks_for(purchase, wanted):
            raise ValueError(f"{reference!r} stands for another purchase")
        return await self._quote(purchase)

    async def pay(self, order_id: str) -> str:
        """Pay once, however often it is called, and return the transaction's hash."""
        purchase, quote = await self._known(order_id)
        if purchase.state in ("quoted", "signed", "sent"):
            purchase = await self._till.pay(purchase, quote)
        return purchase.payment.tx_hash if purchase.payment is not None else ""

    async def deliver(self, order_id: str, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Give notice of the payment until it is accepted; repeatable."""
        purchase, quote = await self._known(order_id)
        if purchase.state in ("signed", "sent"):
            await self._notices.give(purchase, quote, patience_seconds)

    async def wait(self, order_id: str, *, patience_seconds: float = PATIENCE_SECONDS) -> Status:
        """Return once the order has content or came to rest."""
        return await wait_for(self.client, order_id, patience_seconds)

    async def download(self, order_id: str) -> Deliverable:
        """Return the content, if its bytes are those that the provider signed for."""
        purchase = self.purchases.of_order(order_id)
        deliverable = await self._deliveries.download(order_id)
        if purchase.content_hash is None:
            state = purchase.state if purchase.state == "disputed" else "received"
            digest = deliverable.content_hash
            self.purchases.put(replace(purchase, content_hash=digest, state=state))
        return deliverable

    async def confirm(self, order_id: str, rating: int | None = None) -> None:
        """Sign for the content that was downloaded and verified; repeatable."""
        purchase = self.purchases.of_order(order_id)
        if purchase.content_hash is None:
            raise LookupError("nothing was downloaded and verified that could be confirmed")
        await self._receipts.confirm(order_id, purchase.content_hash, rating)
        self.purchases.put(replace(purchase, state="confirmed"))

    async def dispute(self, order_id: str, reason: Reason, statement: str | None = None) -> None:
        """Complain, with a signed text; repeatable."""
        purchase = self.purchases.of_order(order_id)
        await self._receipts.dispute(order_id, reason, statement, purchase.content_hash)
        self.purchases.put(replace(purchase, state="disputed"))

    async def buy(
        self,
        service: str,
        description: str,
        *,
        reference: str | None = None,
        budget_usdc: Decimal | int | str | None = None,
        arbiter: str | None = None,
        rating: int | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> Bought:
        """Make a whole purchase. The same reference goes on with the same purchase."""
        quote = await self.quote(
            service, description, reference=reference, budget_usdc=budget_usdc, arbiter=arbiter
        )
        return await self._finish(quote, rating, patience_seconds)

    async def resume(
        self,
        reference: str,
        *,
        rating: int | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> Bought:
        """Go on with a purchase that was begun."""
        purchase = self.purchases.find(reference)
        if purchase is None:
            raise LookupError(f"no purchase {reference!r} was begun here")
        return await self._finish(await self._quote(purchase), rating, patience_seconds)

    def unfinished(self) -> list[Purchase]:
        """Return the purchases that were begun and not finished."""
        return self.purchases.in_state(*OPEN)

    async def _finish(self, quote: Quote, rating: int | None, patience_seconds: float) -> Bought:
        order_id = quote.order_id
        tx_hash = await self.pay(order_id)
        await self.deliver(order_id, patience_seconds=patience_seconds)
        status = await self.wait(order_id, patience_seconds=patience_seconds)
        if not status.has_content:
            raise OrderEnded(order_id, status.word)
        deliverable = await self.download(order_id)
        if self.purchases.of_order(order_id).state == "received":
            await self.confirm(order_id, rating)
        return Bought(quote, tx_hash, deliverable)

    async def _budget(self, service: str, budget: Decimal | int | str | None) -> int:
        if budget is not None:
            return micros_of_usdc(budget)
        for offered in (await self.catalog()).services:
            if offered.type == service:
                return micros_of_usdc(str(offered.base_price_usdc))
        raise LookupError(f"the catalog has no service {service!r}")

    def _begin(
        self,
        wanted: dict[str, object],
        budget_micros: int,
        reference: str | None,
        arbiter: str | None,
    ) -> Purchase:
        request: dict[str, object] = {
            "protocol": "IVXP/1.0",
            "message_type": "service_request",
            "client_agent": {"name": self._name, "wallet_address": self.address},
            "service_request": {**wanted, "budget_usdc": usdc_number(budget_micros)},
        }
        return self.purchases.begin(
            Purchase(
                reference=reference or secrets.token_hex(16),
                url=self.client.http.base_url,
                request=request,
                key=secrets.token_hex(16),
                budget_micros=budget_micros,
                arbiter=arbiter.lower() if arbiter is not None else None,
            )
        )

    async def _quote(self, purchase: Purchase) -> Quote:
        if purchase.url != self.client.http.base_url:
            raise ValueError(f"this purchase was begun at {purchase.url}")
        if purchase.order_id is not None:
            return (await self._known(purchase.order_id))[1]
        # A crash before the answer is kept: the same key and bytes get the same order again.
        answer = await self.client.post("/ivxp/request", purchase.request, key=purchase.key)
        book, now = await self.client.book(), self.client.clock()
        proven = answer.event()
        quote = checked_quote(answer.body, proven, purchase, self.address, book, now)
        self.purchases.put(
            replace(
                purchase,
                state="quoted",
                order_id=quote.order_id,
                quote_position=quote.position,
                pay_by=quote.pay_by,
            )
        )
        return quote

    async def _known(self, order_id: str) -> tuple[Purchase, Quote]:
        """Return a purchase and its quote, from the entry that was proven and kept."""
        purchase = self.purchases.of_order(order_id)
        book = await self.client.book()
        entry = self.heads.entry(book.origin, purchase.quote_position)
        if entry is None:
            raise LookupError("the entry of the quote is not in this store")
        return purchase, quote_of_entry(entry, purchase.quote_position)


def _asks_for(purchase: Purchase, wanted: dict[str, object]) -> bool:
    """Whether a purchase is of this service and these words."""
    asked = purchase.request["service_request"]
    return isinstance(asked, dict) and wanted.items() <= asked.items()
