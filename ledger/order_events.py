"""The events of an order. Each docstring says who vouches for it and what it does not prove."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from ledger.deal_events import DealEvent
from ledger.event import (
    Actor,
    ClientText,
    Event,
    TreeHead,
    UnixSeconds,
)
from ledger.payment_events import MoneyEvent
from ledger.values import (
    Account,
    Address,
    ChainRef,
    ContentId,
    Digest,
    MicroUsdc,
    ShortText,
    TxHash,
)

Seconds = Annotated[int, Field(ge=0, lt=2**31)]
Code = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,63}$")]


class OrderQuoted(Event):
    """The provider offers these terms. Proves the promise, not that anybody accepted it."""

    kind: ClassVar[str] = "quoted"
    service: ShortText
    client: Account
    price: MicroUsdc
    chain: ChainRef
    token: Address
    payment_address: Address
    pay_by: UnixSeconds
    deliver_by: UnixSeconds
    acceptance_window: Seconds
    answer_window: Seconds
    refund_policy: Digest
    arbiter: Address | None = None
    delivery_format: ShortText | None = None
    description_id: ContentId
    client_name_id: ContentId | None = None
    contact_endpoint_id: ContentId | None = None


class QuoteExpired(Event):
    """A block past `pay_by` was scanned and nothing paid the quote. The provider's reading."""

    kind: ClassVar[str] = "expired"
    actor: ClassVar[Actor] = "system"
    scanned_block: Annotated[int, Field(ge=0, lt=2**53)]
    scanned_block_time: UnixSeconds


class ProcessingStarted(Event):
    """Work began: a signed notice was accepted, a worker took it, or a failed one is retried."""

    kind: ClassVar[str] = "processing"
    reason: Literal["notice", "worker", "retry"]
    notice: ClientText | None = None
    tx_hash: TxHash | None = None
    nonce: ShortText | None = None
    delivery_endpoint_id: ContentId | None = None


class NoticeAccepted(Event):
    """The client's signed notice reached an order that was paid and begun without it.

    Proves what the client asked for and where it wants the deliverable; starts nothing.
    """

    kind: ClassVar[str] = "notice_accepted"
    actor: ClassVar[Actor] = "client"
    notice: ClientText
    tx_hash: TxHash
    nonce: ShortText | None = None
    delivery_endpoint_id: ContentId | None = None


class DeliverableReady(Event):
    """The provider holds these bytes. Proves their hash, not their quality or their receipt.

    `raw` is SHA-256 of the bytes handed out, `json_digest` of `JSON.stringify` of the content
    string, `legacy_digest` of the sorted `json.dumps` of old providers, `object_digest` of
    `JSON.stringify` of a download's content where that is an object.
    """

    kind: ClassVar[str] = "ready"
    content_id: ContentId
    raw: Digest
    json_digest: Digest
    legacy_digest: Digest | None = None
    object_digest: Digest | None = None
    size_bytes: Annotated[int, Field(ge=0, lt=2**40)]
    format: ShortText
    content_type: ShortText

    @property
    def digests(self) -> frozenset[str]:
        """Every hash that names these bytes."""
        known = (self.raw, self.json_digest, self.legacy_digest, self.object_digest)
        return frozenset(digest for digest in known if digest is not None)


class DeliverablePosted(Event):
    """The client's endpoint answered 2xx. The provider's word only, not a receipt."""

    kind: ClassVar[str] = "posted"
    attempt: Annotated[int, Field(ge=1, lt=2**31)]
    content_hash: Digest
    response_status: Annotated[int, Field(ge=200, le=299)]


class DeliverableCollected(Event):
    """The bytes were handed out whole. The provider's word; `bearer` knew only the order id."""

    kind: ClassVar[str] = "delivered"
    by: Literal["bearer", "party"]
    content_hash: Digest


class DeliveryFailed(Event):
    """A push was exhausted (the content stays downloadable) or the handler failed (no content)."""

    kind: ClassVar[str] = "delivery_failed"
    reason: Literal["push_exhausted", "handler_failed"]
    attempts: Annotated[int, Field(ge=1, lt=2**31)]
    detail: ShortText | None = None


class DeliveryConfirmed(Event):
    """The client signed a receipt: `content` if its text names the hash, else `order_only`."""

    kind: ClassVar[str] = "confirmed"
    actor: ClassVar[Actor] = "client"
    client: ClientText
    binds: Literal["content", "order_only"]
    content_hash: Digest | None = None
    head: TreeHead | None = None
    rating: Annotated[int, Field(ge=1, le=5)] | None = None


class DeliveryDisputed(Event):
    """The client signed a complaint. Proves that it complained, not that it is right."""

    kind: ClassVar[str] = "disputed"
    actor: ClassVar[Actor] = "client"
    client: ClientText
    reason: Literal["not_delivered", "wrong_content", "other"]
    content_hash: Digest | None = None
    statement_id: ContentId | None = None


class OrderRefunded(Event):
    """All of the received money went back on chain, or the payment is proven impossible."""

    kind: ClassVar[str] = "refunded"
    actor: ClassVar[Actor] = "system"
    reason: Literal["returned", "payment_impossible"]
    amount: MicroUsdc
    payer_nonce_used_by: TxHash | None = None


class PushAttempted(Event):
    """One push to the client's endpoint, and how it ended. The provider's word."""

    kind: ClassVar[str] = "push_attempted"
    attempt: Annotated[int, Field(ge=1, lt=2**31)]
    target: Literal["delivery_endpoint", "contact_endpoint"]
    outcome: Literal["accepted", "refused", "unreachable", "blocked", "exhausted"]
    response_status: Annotated[int, Field(ge=100, le=599)] | None = None


class DownloadNoted(Event):
    """A first download in a status that it does not change."""

    kind: ClassVar[str] = "download_noted"
    by: Literal["bearer", "party"]
    content_hash: Digest


class AcceptanceLapsed(Event):
    """The client neither confirmed nor disputed in its window: closed without objection."""

    kind: ClassVar[str] = "acceptance_lapsed"
    actor: ClassVar[Actor] = "system"
    window_ended: UnixSeconds


class AnswerLapsed(Event):
    """The provider did not answer the dispute in its window."""

    kind: ClassVar[str] = "answer_lapsed"
    actor: ClassVar[Actor] = "system"
    window_ended: UnixSeconds


class DisputeAnswered(Event):
    """The provider answers a dispute; an acceptance is not a refund."""

    kind: ClassVar[str] = "dispute_answered"
    position: Literal["accepts", "rejects"]
    statement_id: ContentId | None = None


class DisputeWithdrawn(Event):
    """The client signed that the dispute is over."""

    kind: ClassVar[str] = "dispute_withdrawn"
    actor: ClassVar[Actor] = "client"
    client: ClientText


class DisputeRuled(Event):
    """The arbiter that the quote names signed a ruling. It moves no money."""

    kind: ClassVar[str] = "dispute_ruled"
    arbiter: ClientText
    outcome: Literal["client", "provider", "split"]
    amount: MicroUsdc


class ContentErased(Event):
    """The named content and its salts were erased; their commitments stay and can be seen."""

    kind: ClassVar[str] = "content_erased"
    content_ids: Annotated[tuple[ContentId, ...], Field(min_length=1, max_length=64, strict=False)]
    reason: Literal["retention", "request", "operator"]


class CommandRefused(Event):
    """A command with a valid signature was refused; the provider signs that it refused."""

    kind: ClassVar[str] = "command_refused"
    command: Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,40}$")]
    code: Code
    client: ClientText


class ReceiptRecorded(Event):
    """A party signed that it has an event, or what it made of it. It changes no status.

    `leaf` is the event's, which lies in this order at `position`; `sender` is who caused it. Proves
    that the receiver's wallet signed; what it did with the event is its own word.
    """

    kind: ClassVar[str] = "receipt_recorded"
    actor: ClassVar[Actor] = "client"
    position: Annotated[int, Field(ge=1, lt=2**53)]
    leaf: Digest
    sender: Literal["provider", "client"]
    said: Literal["received", "read", "processed", "rejected"]
    content_hash: Digest | None = None
    receiver: ClientText


OrderEvent = (
    OrderQuoted
    | MoneyEvent
    | DealEvent
    | QuoteExpired
    | ProcessingStarted
    | NoticeAccepted
    | DeliverableReady
    | DeliverablePosted
    | DeliverableCollected
    | DeliveryFailed
    | DeliveryConfirmed
    | DeliveryDisputed
    | OrderRefunded
    | PushAttempted
    | DownloadNoted
    | AcceptanceLapsed
    | AnswerLapsed
    | DisputeAnswered
    | DisputeWithdrawn
    | DisputeRuled
    | ContentErased
    | CommandRefused
    | ReceiptRecorded
)
