"""A quote, and the checks before any money moves: what is signed is what is said. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256
from typing import Final

from pydantic import BaseModel, ConfigDict

from api.client.blocks import Proven
from api.client.errors import QuoteRefused
from api.client.logkeys import LogBook
from api.client.payer import Transfer
from api.client.purchases import Purchase
from api.client.shapes import parsed
from api.config import CHAIN_IDS, USDC
from ledger.entry import read_entry
from ledger.errors import InvalidInput
from ledger.order_events import OrderQuoted
from ledger.values import (
    UnixMs,
    address_of,
    evm_account,
    iso_of_seconds,
    micros_of_usdc,
    order_of_stream,
    order_stream,
)

_NETWORK_OF: Final = {f"eip155:{number}": name for name, number in CHAIN_IDS.items()}


class _Offer(BaseModel):
    model_config = ConfigDict(frozen=True)
    price_usdc: Decimal
    estimated_delivery: str
    payment_address: str
    network: str
    token_contract: str


class _Terms(BaseModel):
    model_config = ConfigDict(frozen=True)
    payment_timeout: int
    refund_policy: str


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)
    order_id: str
    quote: _Offer
    terms: _Terms


@dataclass(frozen=True, slots=True)
class Quote:
    """What the provider signed: every member is from the signed event, none from the answer.

    Times are Unix seconds, amounts micro-USDC. `refund_policy` is a SHA-256.
    """

    order_id: str
    position: int
    service: str
    network: str
    transfer: Transfer
    pay_by: int
    deliver_by: int
    acceptance_window: int
    answer_window: int
    refund_policy: str
    arbiter: str | None

    @property
    def price_micros(self) -> int:
        return self.transfer.micros


def quote_of_entry(entry: bytes, position: int) -> Quote:
    """Return the quote in an entry that was proven before."""
    signed = read_entry(entry)
    terms = signed.event
    if not isinstance(terms, OrderQuoted):
        raise QuoteRefused(f"the event is {terms.kind}, not a quote")
    network = _NETWORK_OF.get(terms.chain)
    if network is None:
        raise QuoteRefused(f"no network is known with the chain {terms.chain}")
    return Quote(
        order_id=order_of_stream(signed.stream),
        position=position,
        service=terms.service,
        network=network,
        transfer=Transfer(CHAIN_IDS[network], terms.token, terms.payment_address, terms.price),
        pay_by=terms.pay_by,
        deliver_by=terms.deliver_by,
        acceptance_window=terms.acceptance_window,
        answer_window=terms.answer_window,
        refund_policy=terms.refund_policy,
        arbiter=terms.arbiter,
    )


def checked_quote(
    body: object, proven: Proven, asked: Purchase, wallet: str, book: LogBook, now: UnixMs
) -> Quote:
    """Return the proven quote of an answer, or raise `QuoteRefused` and name what is wrong."""
    said = parsed(_Answer, body)
    quote = quote_of_entry(proven.event.entry, proven.position)
    terms = proven.event.event
    # (1): the event opens the order that the answer names.
    _require((proven.event.stream, proven.event.seq) == (order_stream(said.order_id), 1), "order")
    # (2): the signed terms are those that were asked for.
    assert isinstance(terms, OrderQuoted)  # noqa: S101 - `quote_of_entry` refuses other events
    wanted = asked.request["service_request"]
    service = wanted.get("type") if isinstance(wanted, dict) else None
    _require(quote.service == service, "service")
    _require(terms.client == evm_account(quote.transfer.chain_id, wallet), "client")
    _require(quote.price_micros <= asked.budget_micros, "price above the budget")
    _require(asked.arbiter in (None, quote.arbiter), "arbiter")
    # (3): the answer says what is signed.
    _require(_micros(said.quote.price_usdc) == quote.price_micros, "price")
    _require(said.quote.payment_address.lower() == quote.transfer.recipient, "payment address")
    _require(said.quote.network == quote.network, "network")
    _require(said.quote.token_contract.lower() == quote.transfer.token, "token")
    _require(said.quote.estimated_delivery == iso_of_seconds(quote.deliver_by), "deliver_by")
    signed_at = proven.event.at // 1000
    _require(quote.pay_by == signed_at + said.terms.payment_timeout, "pay_by")
    policy = sha256(said.terms.refund_policy.encode()).hexdigest()
    _require(policy == quote.refund_policy, "refund policy")
    # (4): it is money of this network, it goes where the log's genesis says, and there is time.
    _require(quote.transfer.token == USDC[quote.network], "token: it is not USDC")
    _require(quote.transfer.recipient == address_of(book.genesis.payment_address), "recipient")
    _require(quote.pay_by * 1000 > now, "pay_by: it is over")
    return quote


def _micros(amount: Decimal) -> int:
    try:
        return micros_of_usdc(amount)
    except InvalidInput as error:
        raise QuoteRefused(f"price: {error.message}") from error


def _require(holds: bool, what: str) -> None:  # noqa: FBT001 - a condition is what it takes
    if not holds:
        raise QuoteRefused(f"the quote is refused: {what}")
