"""How events make the state of an order.

Pure. `evolve` never refuses and consults no rule: an event has happened.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, assert_never, cast, get_args

from ledger.deal import Deal, apply_deal
from ledger.deal_events import DealEvent, OrderProposed
from ledger.entry import SignedEvent
from ledger.event import ClientText, Event, Finality, Transfer
from ledger.evolve_dispute import DisputeEvent, apply_dispute, close_dispute
from ledger.money import Bucket, Money
from ledger.order import OpenClaim, Order, Pushes, PushTarget, Status, changed
from ledger.order_events import (
    AcceptanceLapsed,
    CommandRefused,
    ContentErased,
    DeliverableCollected,
    DeliverablePosted,
    DeliverableReady,
    DeliveryConfirmed,
    DeliveryFailed,
    DownloadNoted,
    NoticeAccepted,
    OrderEvent,
    OrderQuoted,
    OrderRefunded,
    ProcessingStarted,
    PushAttempted,
    QuoteExpired,
    ReceiptRecorded,
)
from ledger.payment_events import (
    MoneyEvent,
    PaymentClaimClosed,
    PaymentClaimed,
    PaymentFinalized,
    PaymentLate,
    PaymentOrphaned,
    PaymentOverpaid,
    PaymentPartial,
    PaymentRestored,
    PaymentVerified,
    RefundRecorded,
)
from ledger.values import ZERO_ADDRESS, UnixMs, address_of, order_of_stream

Times = Mapping[Status, UnixMs]


def fold(events: Iterable[SignedEvent]) -> Order | None:
    """Return the order that these events, in order, make; None of none."""
    order: Order | None = None
    for signed in events:
        order = evolve(order, signed)
    return order


def evolve(order: Order | None, signed: SignedEvent) -> Order:
    """Return the order after one more of its events."""
    event = signed.event
    if order is None:
        if not isinstance(event, OrderQuoted | OrderProposed):
            msg = f"an order begins with its quote or offer, not with {event.kind!r}"
            raise TypeError(msg)
        return _quoted(signed, event)
    if type(event) not in _ORDER_EVENTS:  # for every event of a load: a union asks them all
        msg = f"{event.kind!r} is not an event of an order"
        raise TypeError(msg)
    after = _apply(order, cast("OrderEvent", event), signed.at)
    status = _STATUS_OF.get(event.kind)
    if status is None:
        return changed(after, version=signed.seq, updated_at=signed.at)
    return changed(
        after,
        version=signed.seq,
        updated_at=signed.at,
        status=status,
        status_at=_entered(order.status_at, status, signed.at),
    )


def _entered(status_at: Times, status: Status, at: UnixMs) -> Times:
    """Return the times with the newest status last: one command may enter several at once."""
    entered = dict(status_at)
    entered.pop(status, None)
    entered[status] = at
    return entered


_ORDER_EVENTS: Final[frozenset[type[Event]]] = frozenset(get_args(OrderEvent))
_STATUS_OF: Final = {status.value: status for status in Status}
_LAST_OUTCOMES: Final = frozenset({"accepted", "blocked", "exhausted"})


def _quoted(signed: SignedEvent, event: OrderQuoted | OrderProposed) -> Order:
    return Order(
        id=order_of_stream(signed.stream),
        version=signed.seq,
        status=Status.QUOTED,
        terms=event,
        client=event.client,
        created_at=signed.at,
        updated_at=signed.at,
        status_at={Status.QUOTED: signed.at},
        deal=Deal() if isinstance(event, OrderProposed) else None,
        not_before=signed.beacon.number if signed.beacon else None,
    )


def _apply(order: Order, event: OrderEvent, at: UnixMs) -> Order:
    if isinstance(event, DealEvent):
        return _apply_deal(order, event, at)
    if isinstance(event, DisputeEvent):
        return apply_dispute(order, event, at)
    match event:
        case OrderQuoted() | QuoteExpired():
            return order
        case (
            PaymentVerified()
            | PaymentClaimed()
            | PaymentClaimClosed()
            | PaymentPartial()
            | PaymentOverpaid()
            | PaymentLate()
            | PaymentFinalized()
            | PaymentOrphaned()
            | PaymentRestored()
            | RefundRecorded()
        ):
            return _apply_money(order, event, at)
        case ProcessingStarted() | NoticeAccepted():
            return _accepted(order, event)
        case DeliverableReady():
            return changed(order, deliverable=event)
        case DeliveryFailed():
            return _pushed(order, event, at) if event.reason == "push_exhausted" else order
        case PushAttempted() | DeliverablePosted():
            return changed(_pushed(order, event, at), push_attempts=event.attempt)
        case DeliverableCollected() | DownloadNoted():
            return changed(order, collected=True)
        case DeliveryConfirmed():
            return changed(close_dispute(order), confirmation=event)
        case OrderRefunded():
            return changed(close_dispute(order), claims=())
        case AcceptanceLapsed():
            return changed(order, acceptance_lapsed=True)
        case ContentErased():
            return changed(order, erased=order.erased | set(event.content_ids))
        case CommandRefused():
            return changed(order, refusals=(*order.refusals, (event.client.text, event.code)))
        case ReceiptRecorded():
            told = (event.leaf, event.said, event.receiver.signer)
            return changed(order, receipts=order.receipts | {told})
        case _:
            assert_never(event)


def _apply_deal(order: Order, event: DealEvent, at: UnixMs) -> Order:
    if order.deal is None:
        return order
    return changed(order, deal=apply_deal(order.deal, event, at))


def _apply_money(order: Order, event: MoneyEvent, at: UnixMs) -> Order:
    money = order.money
    match event:
        case PaymentVerified():
            paid = money.place(event.transfers, Bucket.APPLIED).apply_pending()
            return _received(order, event.transfers, paid, event.finality)
        case PaymentClaimed():
            return _claimed(order, event, at)
        case PaymentClaimClosed():
            return changed(
                order,
                claims=tuple(c for c in order.claims if c.tx_hash != event.tx_hash),
                closed_claims=(*order.closed_claims, event.tx_hash),
            )
        case PaymentPartial():
            return _received(order, event.transfers, money.place(event.transfers, Bucket.PENDING))
        case PaymentOverpaid():
            return _received(order, event.transfers, money.place(event.transfers, Bucket.APPLIED))
        case PaymentLate():
            return _received(order, event.transfers, money.place(event.transfers, Bucket.LATE))
        case PaymentFinalized():
            return changed(
                order,
                finality=event.finality,
                watched=order.watched - {t.key for t in event.transfers},
            )
        case PaymentOrphaned():
            return changed(order, money=money.orphan(t.key for t in event.transfers))
        case PaymentRestored():
            back = money.restore(event.transfers, paid=Status.PAID in order.status_at)
            return _received(order, event.transfers, back, event.finality)
        case RefundRecorded():
            return changed(order, money=money.refund(event.transfers))
        case _:
            assert_never(event)


def _received(
    order: Order, transfers: tuple[Transfer, ...], money: Money, finality: Finality | None = None
) -> Order:
    """Return the order with this money: its transfers are watched, and answer their claims.

    A quote made without a wallet is bound to the first payer, whatever its transfers amount to.
    """
    txs = {t.tx_hash for t in transfers}
    unbound = address_of(order.client) == ZERO_ADDRESS
    return changed(
        order,
        money=money,
        finality=finality or order.finality,
        client=f"{order.terms.chain}:{transfers[0].sender}" if unbound else order.client,
        watched=order.watched | {t.key for t in transfers},
        claims=tuple(c for c in order.claims if c.tx_hash not in txs),
    )


def _claimed(order: Order, event: PaymentClaimed, at: UnixMs) -> Order:
    claim = OpenClaim(event.tx_hash, event.notice, event.nonce, event.delivery_endpoint_id, at)
    return changed(
        order,
        claims=(*order.claims, claim),
        claimed_texts=order.claimed_texts | {claim.notice.text},
        nonces=_with_nonce(order.nonces, event.nonce, event.notice),
    )


def _accepted(order: Order, event: ProcessingStarted | NoticeAccepted) -> Order:
    if event.notice is None:
        return order
    return changed(
        order,
        accepted=event,
        nonces=_with_nonce(order.nonces, event.nonce, event.notice),
        delivery_endpoint_id=event.delivery_endpoint_id or order.delivery_endpoint_id,
    )


def _pushed(
    order: Order, event: PushAttempted | DeliverablePosted | DeliveryFailed, at: UnixMs
) -> Order:
    target: PushTarget = "delivery_endpoint"
    over = True
    if isinstance(event, PushAttempted):
        target, over = event.target, event.outcome in _LAST_OUTCOMES
    before = order.pushes.get(target)
    attempts = (before.attempts if before else 0) + 1
    return changed(order, pushes={**order.pushes, target: Pushes(attempts, at, over)})


def _with_nonce(
    nonces: Mapping[str, str], nonce: str | None, notice: ClientText
) -> Mapping[str, str]:
    return nonces if nonce is None else {**nonces, nonce: notice.text}
