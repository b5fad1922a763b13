"""What deciders return, and the guards that several of them share. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ledger.entry import Draft
from ledger.errors import InvalidInput, LedgerError, Rejected, Unauthorized
from ledger.event import ClientText, Event
from ledger.money import TransferId
from ledger.order import Order, Status
from ledger.values import ZERO_ADDRESS, UnixMs, address_of

MAX_STAMP_AGE_MS: Final = 300_000
MAX_STAMP_SKEW_MS: Final = 60_000

Claimed = Mapping[TransferId, str]
"""Which stream holds a transfer already, for the transfers that a command brings."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The events to append and, if the caller must be refused all the same, with which error.

    The error is raised only after the events are durable.
    """

    drafts: tuple[Draft, ...] = ()
    error: LedgerError | None = None


def decided(*events: Event, error: LedgerError | None = None) -> Decision:
    """Return a decision of events that bring no content of their own."""
    return Decision(tuple(Draft(event) for event in events), error)


def require_next(order: Order, status: Status) -> None:
    """Raise `Rejected` unless the lifecycle table lets this status follow."""
    if status not in order.next:
        msg = f"an order that is {order.status} cannot become {status}"
        raise Rejected(msg, details={"status": str(order.status)})


def require_client(order: Order, client: ClientText) -> None:
    """Raise `Unauthorized` unless the text was signed by the order's client.

    A quote made without a wallet carries the zero address; it is bound by its first payment.
    """
    address = address_of(order.client)
    if address not in (client.signer, ZERO_ADDRESS):
        msg = "the signature is not that of the order's client"
        raise Unauthorized(msg)


def require_bound_client(order: Order, client: ClientText) -> None:
    """Like `require_client`, for acts that only a known client may do."""
    if address_of(order.client) != client.signer:
        msg = "the signature is not that of the order's client"
        raise Unauthorized(msg)


def require_fresh(stamp: UnixMs, now: UnixMs) -> None:
    """Raise `InvalidInput` unless the signed time is at most 300 s old and 60 s ahead."""
    if not -MAX_STAMP_SKEW_MS <= now - stamp <= MAX_STAMP_AGE_MS:
        msg = "the signed timestamp is too old or in the future; sign again with the present time"
        raise InvalidInput(msg, code="INVALID_TIMESTAMP")
