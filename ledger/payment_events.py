"""The money events of an order: legal in every status, except the one that makes it paid."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ledger.event import Actor, ClientText, Event, Finality, TransferKeys, Transfers
from ledger.values import Account, ContentId, MicroUsdc, ShortText, TxHash


class PaymentVerified(Event):
    """The chain shows transfers that reach the price in time. Checkable by anybody on the chain.

    `transfers` are those that this event claims; partial ones claimed before count too, less what
    of them went back. `total` is what counts.
    """

    kind: ClassVar[str] = "paid"
    actor: ClassVar[Actor] = "system"
    transfers: Transfers
    payer: Account
    price: MicroUsdc
    total: MicroUsdc
    overpaid: MicroUsdc
    finality: Finality


class PaymentClaimed(Event):
    """The client says, signed, that this transaction paid; the chain could not show it yet."""

    kind: ClassVar[str] = "payment_claimed"
    actor: ClassVar[Actor] = "client"
    tx_hash: TxHash
    notice: ClientText
    nonce: ShortText | None = None
    delivery_endpoint_id: ContentId | None = None
    reason: Literal["chain_unavailable", "not_found", "not_deep_enough"]


class PaymentClaimClosed(Event):
    """A claim ended without paying. The chain vouches, as the provider read it."""

    kind: ClassVar[str] = "payment_claim_closed"
    actor: ClassVar[Actor] = "system"
    tx_hash: TxHash
    reason: Literal["reverted", "not_matching", "absent"]


class PaymentPartial(Event):
    """Transfers arrived in time but below the price; they stay pending until `pay_by`."""

    kind: ClassVar[str] = "payment_partial"
    actor: ClassVar[Actor] = "system"
    transfers: Transfers
    amount_due: MicroUsdc


class PaymentOverpaid(Event):
    """Further transfers arrived for an order that was already paid; held beyond the price."""

    kind: ClassVar[str] = "payment_overpaid"
    actor: ClassVar[Actor] = "system"
    transfers: Transfers
    overpaid: MicroUsdc


class PaymentLate(Event):
    """Transfers were mined after `pay_by`: held, and due back unless the parties agree.

    Money for an order that was refunded before it was ever paid is late whenever it was mined.
    """

    kind: ClassVar[str] = "payment_late"
    actor: ClassVar[Actor] = "system"
    transfers: Transfers
    refund_due: MicroUsdc


class PaymentFinalized(Event):
    """The blocks of the named transfers reached this finality; they are no longer watched."""

    kind: ClassVar[str] = "payment_finalized"
    actor: ClassVar[Actor] = "system"
    transfers: TransferKeys
    finality: Finality


class PaymentOrphaned(Event):
    """A reorganisation took these transfers off the chain. Work pauses; the claims stay."""

    kind: ClassVar[str] = "payment_orphaned"
    actor: ClassVar[Actor] = "system"
    transfers: TransferKeys
    head_number: Annotated[int, Field(ge=0, lt=2**53)]


class PaymentRestored(Event):
    """A paid order's transfers were mined again, or new ones stand in for them.

    Work resumes once the price is reached; `pay_by` no longer applies. Where the order was never
    paid, transfers that were mined again are judged as new ones.
    """

    kind: ClassVar[str] = "payment_restored"
    actor: ClassVar[Actor] = "system"
    transfers: Transfers
    finality: Finality


class RefundRecorded(Event):
    """Transfers back to the client were verified on chain."""

    kind: ClassVar[str] = "refund_recorded"
    actor: ClassVar[Actor] = "system"
    transfers: Transfers
    amount: MicroUsdc


MoneyEvent = (
    PaymentVerified
    | PaymentClaimed
    | PaymentClaimClosed
    | PaymentPartial
    | PaymentOverpaid
    | PaymentLate
    | PaymentFinalized
    | PaymentOrphaned
    | PaymentRestored
    | RefundRecorded
)
