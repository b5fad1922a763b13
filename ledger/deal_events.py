"""The events of an order that was agreed on in a conversation: from the proposal to the review.

Such an order is paid on Solana. Its money is no part of the money axis: what the payer signed
stands in `PaymentAuthorized`, and `PaymentSettled` says that the chain took it.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from ledger.event import Actor, Event, UnixSeconds
from ledger.market_events import Proven, Side, Uuid
from ledger.money import TransferId
from ledger.solana_wire import NoPayment, read_transaction, transaction_bytes
from ledger.values import Account, Address, ChainRef, ContentId, Digest, MicroUsdc, ShortText
from ledger.wallets import Wallet

Base58Key = Annotated[str, StringConstraints(pattern=r"^[1-9A-HJ-NP-Za-km-z]{32,44}$")]
Base58Signature = Annotated[str, StringConstraints(pattern=r"^[1-9A-HJ-NP-Za-km-z]{64,88}$")]
WindowSeconds = Annotated[int, Field(ge=0, lt=2**31)]
BasisPoints = Annotated[int, Field(ge=0, le=10_000)]
Slot = Annotated[int, Field(ge=0, lt=2**53)]
MAX_TRANSACTION_CHARACTERS = 1_644
"""Base64 of the 1,232 bytes that a transaction of Solana has at most."""


class OrderProposed(Event):
    """The agent offers these terms in a conversation. Proves the offer, not that it was accepted.

    `delivery_seconds` begin with the payment; with a `deadline` the earlier of both counts.
    """

    kind: ClassVar[str] = "order_proposed"
    service: ShortText
    conversation: Uuid
    agent: Uuid
    agent_wallet: Wallet
    client: Account
    price: MicroUsdc
    price_athr: MicroUsdc | None = None
    chain: ChainRef
    token: Base58Key
    payment_address: Account | None = None
    commission_bps: BasisPoints
    pay_by: UnixSeconds
    delivery_seconds: WindowSeconds
    deadline: UnixSeconds | None = None
    acceptance_window: WindowSeconds
    answer_window: WindowSeconds
    refund_policy: Digest
    arbiter: Address | None = None
    description_id: ContentId
    offer: ShortText | None = None
    proven: Proven

    client_name_id: ClassVar[None] = None
    contact_endpoint_id: ClassVar[None] = None
    delivery_format: ClassVar[None] = None


class OrderCountered(Event):
    """The client wants other terms. The offer stands until it is declined or cancelled."""

    kind: ClassVar[str] = "order_countered"
    actor: ClassVar[Actor] = "client"
    price: MicroUsdc | None = None
    delivery_seconds: WindowSeconds | None = None
    text_id: ContentId
    proven: Proven


class OrderDeclined(Event):
    """The client does not want the offer."""

    kind: ClassVar[str] = "order_declined"
    actor: ClassVar[Actor] = "client"
    reason_id: ContentId | None = None
    proven: Proven


class OrderCancelled(Event):
    """One side took an unpaid offer back."""

    kind: ClassVar[str] = "order_cancelled"
    actor: ClassVar[Actor] = "client"
    by: Side
    reason_id: ContentId | None = None
    proven: Proven


class PaymentAuthorized(Event):
    """The payer signed this transfer. Proves that it was willing to pay, not that money moved.

    `transaction` (base64) is what it signed, so anybody can check the signature and what it moves.
    Where the service settles, `awaits` says that the order counts as paid only once it has, and
    `seen_slot` is the newest slot of the chain before the transfer was sent; it is absent if the
    node did not tell its network, and then nothing but a block settles the payment.
    `commission` stays with the marketplace, `payout` is due to the agent; nothing here pays it.
    """

    kind: ClassVar[str] = "payment_authorized"
    actor: ClassVar[Actor] = "client"
    chain: ChainRef
    mint: Base58Key
    recipient: Base58Key
    source: Base58Key
    destination: Base58Key
    payer: Base58Key
    named_payer: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    signature: Base58Signature
    transaction: Annotated[
        str, StringConstraints(pattern=r"^[A-Za-z0-9+/]{4,1644}={0,2}$", max_length=1_644)
    ]
    method: Literal["USDC", "ATHR"]
    due: MicroUsdc
    amount: MicroUsdc
    commission: MicroUsdc
    payout: MicroUsdc
    grade: Literal["signed"]
    awaits: Literal["nothing", "settlement"]
    seen_slot: Slot | None = None
    proven: Proven

    @property
    def keys(self) -> tuple[TransferId, ...]:
        """The claim keys: one signature pays one order, and so does one signed message.

        A payer can sign the same message in many ways, and the chain takes only one of them. What
        is no transaction has no message; only a forged log could hold it.
        """
        try:
            message = read_transaction(transaction_bytes(self.transaction)).message
        except NoPayment:
            return ((self.chain, self.signature, 0),)
        return (self.chain, self.signature, 0), (self.chain, sha256(message).hexdigest(), 0)


class PaymentSettled(Event):
    """The chain took the transfer at this finality; `slot` is where. Checkable by anybody."""

    kind: ClassVar[str] = "payment_settled"
    actor: ClassVar[Actor] = "system"
    signature: Base58Signature
    slot: Slot
    grade: Literal["settled"]
    finality: Literal["confirmed", "finalized"]


class PaymentVoided(Event):
    """The signed transfer failed on the chain, or can never be taken any more. Nothing moved."""

    kind: ClassVar[str] = "payment_voided"
    actor: ClassVar[Actor] = "system"
    signature: Base58Signature
    reason: Literal["failed", "expired"]
    cause: Literal["funds", "blockhash", "other"]
    detail: ShortText | None = None


class OrderReviewed(Event):
    """The client reviewed what it got. It is no signed receipt: see `confirmed`."""

    kind: ClassVar[str] = "order_reviewed"
    actor: ClassVar[Actor] = "client"
    rating: Annotated[int, Field(ge=1, le=5)]
    comment_id: ContentId | None = None
    proven: Proven


DealEvent = (
    OrderProposed
    | OrderCountered
    | OrderDeclined
    | OrderCancelled
    | PaymentAuthorized
    | PaymentSettled
    | PaymentVoided
    | OrderReviewed
)
