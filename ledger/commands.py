"""One frozen class per intent.

A command is a request to record; it may be refused, and is never stored. Each carries `now`, so
that deciding reads no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ledger.entry import Beacon
from ledger.event import ClientText, TreeHead
from ledger.finding import Finding
from ledger.order_events import OrderQuoted
from ledger.values import UnixMs


@dataclass(frozen=True, slots=True)
class IssueQuote:
    """Offer these terms to a client. `beacon` is the newest block, where the chain says."""

    terms: OrderQuoted
    commit: Mapping[str, str]
    now: UnixMs
    beacon: Beacon | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """A client's signed payment notice, parsed: what its text names, and when it says it spoke.

    `tx_hash` is that of the body; the text may name none. `stamp` is the time inside the text.
    """

    client: ClientText
    tx_hash: str
    nonce: str | None
    stamp: UnixMs
    delivery_endpoint_id: str | None = None
    commit: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AcceptNotice:
    """Accept a payment notice, with what the chain was seen to say about its transaction."""

    notice: Notice
    finding: Finding
    now: UnixMs


@dataclass(frozen=True, slots=True)
class ResolveClaim:
    """Look again at a claim that was kept; works without the client."""

    finding: Finding
    now: UnixMs


@dataclass(frozen=True, slots=True)
class RecordTransfers:
    """Record transfers that were found without a notice, and that the caller gives to this order.

    `payer` is the address they come from; None is the order's client.
    """

    finding: Finding
    payer: str | None
    now: UnixMs


@dataclass(frozen=True, slots=True)
class RecheckPayment:
    """Compare one watched transaction with what the chain says now.

    `canonical` maps the heights of its known blocks to the canonical hash there, where known.
    """

    finding: Finding
    canonical: Mapping[int, str]
    now: UnixMs


@dataclass(frozen=True, slots=True)
class ExpireQuote:
    """Close an unpaid quote: a block at the required depth is past `pay_by`."""

    scanned_block: int
    scanned_block_time: int
    candidate_transfers: bool
    now: UnixMs


@dataclass(frozen=True, slots=True)
class RecordRefund:
    """Record transfers from the payment address to the client, verified on chain."""

    finding: Finding
    now: UnixMs


@dataclass(frozen=True, slots=True)
class DeclarePaymentImpossible:
    """The payer's account nonce was finally used by another transaction."""

    used_by: str
    now: UnixMs


@dataclass(frozen=True, slots=True)
class StartProcessing:
    """A worker takes the order, or retries a failed one."""

    reason: Literal["worker", "retry"]
    now: UnixMs


@dataclass(frozen=True, slots=True)
class Deliverable:
    """Produced content by its digests; the bytes lie in the content store under `content_id`."""

    content_id: str
    raw: str
    json_digest: str
    size_bytes: int
    format: str
    content_type: str
    legacy_digest: str | None = None
    object_digest: str | None = None


@dataclass(frozen=True, slots=True)
class HandIn:
    """Hand in the deliverable."""

    deliverable: Deliverable
    now: UnixMs


@dataclass(frozen=True, slots=True)
class FailHandler:
    """The handler ended without content."""

    attempts: int
    detail: str
    now: UnixMs


@dataclass(frozen=True, slots=True)
class RecordPush:
    """One push to the client ended."""

    target: Literal["delivery_endpoint", "contact_endpoint"]
    outcome: Literal["accepted", "refused", "unreachable", "blocked", "exhausted"]
    response_status: int | None
    now: UnixMs
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class NoteCollected:
    """The bytes were handed out whole."""

    by: Literal["bearer", "party"]
    now: UnixMs


@dataclass(frozen=True, slots=True)
class ConfirmDelivery:
    """The client's signed receipt. `digests` are the hashes its text and body name, bare hex."""

    client: ClientText
    stamp: UnixMs
    text_digest: str | None
    body_digest: str | None
    head: TreeHead | None
    rating: int | None
    now: UnixMs


@dataclass(frozen=True, slots=True)
class OpenDispute:
    """The client's signed complaint."""

    client: ClientText
    stamp: UnixMs
    reason: Literal["not_delivered", "wrong_content", "other"]
    content_hash: str | None
    statement_id: str | None
    commit: Mapping[str, str]
    now: UnixMs


@dataclass(frozen=True, slots=True)
class AnswerDispute:
    """The provider's answer."""

    position: Literal["accepts", "rejects"]
    statement_id: str | None
    commit: Mapping[str, str]
    now: UnixMs


@dataclass(frozen=True, slots=True)
class WithdrawDispute:
    """The client's signed withdrawal."""

    client: ClientText
    stamp: UnixMs
    now: UnixMs


@dataclass(frozen=True, slots=True)
class RuleDispute:
    """The arbiter's signed ruling; `amount` is what should go back, in micro-USDC."""

    arbiter: ClientText
    stamp: UnixMs
    outcome: Literal["client", "provider", "split"]
    amount: int
    now: UnixMs


@dataclass(frozen=True, slots=True)
class RecordReceipt:
    """A party's signed word on one event of the order. `side` is the signer's."""

    position: int
    leaf: str
    sender: Literal["provider", "client"]
    side: Literal["provider", "client"]
    said: Literal["received", "read", "processed", "rejected"]
    content_hash: str | None
    receiver: ClientText
    stamp: UnixMs
    now: UnixMs


@dataclass(frozen=True, slots=True)
class LapseAcceptance:
    """Close the client's acceptance window."""

    now: UnixMs


@dataclass(frozen=True, slots=True)
class LapseAnswer:
    """Close the provider's answer window."""

    now: UnixMs


@dataclass(frozen=True, slots=True)
class EraseContent:
    """Say that content was erased."""

    content_ids: tuple[str, ...]
    reason: Literal["retention", "request", "operator"]
    now: UnixMs
