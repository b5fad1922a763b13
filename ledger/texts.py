"""The texts that clients sign, as a whitelist of anchored patterns. Pure.

A text is read, never searched: what matches no pattern as a whole is refused, so no field can
smuggle in a second one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, cast

from ledger.errors import InvalidInput, Unauthorized
from ledger.event import TreeHead
from ledger.values import UnixMs, parse_digest, parse_iso

_ID: Final = r"(?P<order>[A-Za-z0-9-]{1,64})"
_TX: Final = r"(?P<tx>0x[0-9a-fA-F]{64})"
_TS: Final = r"(?P<ts>[0-9T:.+Z-]{19,40})"
_HASH: Final = r"(?P<hash>(?:sha256:|0x)?[0-9a-fA-F]{64})"
_NONCE: Final = r"(?P<nonce>[A-Za-z0-9_-]{16,128})"

_NOTICES: Final = (
    rf"Order: {_ID} \| Payment: {_TX} \| Timestamp: {_TS}",
    rf"IVXP-DELIVER \| Order: {_ID} \| Payment: {_TX} \| Nonce: {_NONCE} \| Timestamp: {_TS}",
    (
        rf"IVXP Identity Verification \| Order: {_ID} \| Address: (?P<address>0x[0-9a-fA-F]{{40}})"
        r" \| Timestamp: (?P<ms>[0-9]{13})"
    ),
)
_RECEIPTS: Final = (
    rf"Confirm delivery: {_ID} \| Timestamp: {_TS}",
    rf"Order: {_ID} \| Received: true \| Hash: {_HASH} \| Timestamp: {_TS}",
    (
        rf"Order: {_ID} \| Received: true \| Hash: {_HASH}"
        rf" \| Head: (?P<size>[1-9][0-9]{{0,14}}):(?P<root>[0-9a-f]{{64}}) \| Timestamp: {_TS}"
    ),
    rf"Order: {_ID} \| Received: {_TS} \| Satisfied: true",
)
_DISPUTES: Final = (
    (
        rf"Dispute delivery: {_ID} \| Reason: (?P<reason>not_delivered|wrong_content|other)"
        rf" \| Hash: (?:none|{_HASH}) \| Statement: (?:none|(?P<statement>[0-9a-f]{{64}}))"
        rf" \| Timestamp: {_TS}"
    ),
)
_WITHDRAWALS: Final = (rf"Withdraw dispute: {_ID} \| Timestamp: {_TS}",)
_RULINGS: Final = (
    (
        rf"Rule dispute: {_ID} \| Outcome: (?P<outcome>client|provider|split)"
        rf" \| Amount: (?P<amount>0|[1-9][0-9]{{0,14}}) \| Timestamp: {_TS}"
    ),
)
_EVENT_RECEIPTS: Final = (
    (
        r"Receipt: (?P<position>[1-9][0-9]{0,14})-(?P<leaf>[0-9a-f]{64})"
        r" \| Kind: (?P<said>received|read|processed|rejected)"
        rf" \| Hash: (?:none|{_HASH}) \| Timestamp: {_TS}"
    ),
)


def _compiled(patterns: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(pattern, re.ASCII) for pattern in patterns)


_NOTICE_PATTERNS: Final = _compiled(_NOTICES)
_RECEIPT_PATTERNS: Final = _compiled(_RECEIPTS)
_DISPUTE_PATTERNS: Final = _compiled(_DISPUTES)
_WITHDRAWAL_PATTERNS: Final = _compiled(_WITHDRAWALS)
_RULING_PATTERNS: Final = _compiled(_RULINGS)
_EVENT_RECEIPT_PATTERNS: Final = _compiled(_EVENT_RECEIPTS)


@dataclass(frozen=True, slots=True)
class NoticeText:
    """A payment notice: `tx_hash` and `nonce` where the text names them, lower-case hash."""

    order_id: str
    stamp: UnixMs
    tx_hash: str | None
    nonce: str | None
    address: str | None


@dataclass(frozen=True, slots=True)
class ReceiptText:
    """A delivery receipt: `content_hash` is bare hex, or None if the text names no hash."""

    order_id: str
    stamp: UnixMs
    content_hash: str | None
    head: TreeHead | None


@dataclass(frozen=True, slots=True)
class DisputeText:
    """A dispute."""

    order_id: str
    stamp: UnixMs
    reason: Literal["not_delivered", "wrong_content", "other"]
    content_hash: str | None
    statement: str | None


@dataclass(frozen=True, slots=True)
class WithdrawalText:
    """The client's word that its dispute is over."""

    order_id: str
    stamp: UnixMs


@dataclass(frozen=True, slots=True)
class RulingText:
    """An arbiter's ruling: `amount` should go back to the client, in micro-USDC."""

    order_id: str
    stamp: UnixMs
    outcome: Literal["client", "provider", "split"]
    amount: int


@dataclass(frozen=True, slots=True)
class EventReceiptText:
    """A party's word on one event of a feed: the event is named by its position and its leaf."""

    position: int
    leaf: str
    said: Literal["received", "read", "processed", "rejected"]
    stamp: UnixMs
    content_hash: str | None


def parse_notice(text: str) -> NoticeText:
    """Return what a payment notice says, or raise `Unauthorized` if it has no known form."""
    fields = _match(text, _NOTICE_PATTERNS)
    tx, address, ms = fields.get("tx"), fields.get("address"), fields.get("ms")
    return NoticeText(
        order_id=fields["order"] or "",
        stamp=UnixMs(int(ms)) if ms else _stamp(fields),
        tx_hash=tx.lower() if tx else None,
        nonce=fields.get("nonce"),
        address=address.lower() if address else None,
    )


def parse_receipt(text: str) -> ReceiptText:
    """Return what a delivery receipt says, or raise `Unauthorized` if it has no known form."""
    fields = _match(text, _RECEIPT_PATTERNS)
    size, root, named = fields.get("size"), fields.get("root"), fields.get("hash")
    return ReceiptText(
        order_id=fields["order"] or "",
        stamp=_stamp(fields),
        content_hash=parse_digest(named) if named else None,
        head=TreeHead(size=int(size), root=root) if size and root else None,
    )


def parse_dispute(text: str) -> DisputeText:
    """Return what a dispute says, or raise `Unauthorized` if it has no known form."""
    fields = _match(text, _DISPUTE_PATTERNS)
    named = fields.get("hash")
    return DisputeText(
        order_id=fields["order"] or "",
        stamp=_stamp(fields),
        reason=cast("Literal['not_delivered', 'wrong_content', 'other']", fields["reason"]),
        content_hash=parse_digest(named) if named else None,
        statement=fields.get("statement"),
    )


def parse_withdrawal(text: str) -> WithdrawalText:
    """Return what a withdrawal says, or raise `Unauthorized` if it has no known form."""
    fields = _match(text, _WITHDRAWAL_PATTERNS)
    return WithdrawalText(order_id=fields["order"] or "", stamp=_stamp(fields))


def parse_ruling(text: str) -> RulingText:
    """Return what a ruling says, or raise `Unauthorized` if it has no known form."""
    fields = _match(text, _RULING_PATTERNS)
    return RulingText(
        order_id=fields["order"] or "",
        stamp=_stamp(fields),
        outcome=cast("Literal['client', 'provider', 'split']", fields["outcome"]),
        amount=int(fields["amount"] or 0),
    )


def parse_event_receipt(text: str) -> EventReceiptText:
    """Return what a receipt for an event says, or raise `Unauthorized` if it has no known form."""
    fields = _match(text, _EVENT_RECEIPT_PATTERNS)
    named = fields.get("hash")
    return EventReceiptText(
        position=int(fields["position"] or 0),
        leaf=fields["leaf"] or "",
        said=cast("Literal['received', 'read', 'processed', 'rejected']", fields["said"]),
        stamp=_stamp(fields),
        content_hash=parse_digest(named) if named else None,
    )


def _match(text: str, patterns: tuple[re.Pattern[str], ...]) -> dict[str, str | None]:
    for pattern in patterns:
        match = pattern.fullmatch(text)
        if match:
            return match.groupdict()
    msg = "the signed text has none of the documented forms"
    raise Unauthorized(msg)


def _stamp(fields: dict[str, str | None]) -> UnixMs:
    try:
        return parse_iso(fields["ts"] or "")
    except InvalidInput as error:
        msg = "the signed text's timestamp is not ISO 8601 with a time zone"
        raise InvalidInput(msg, code="INVALID_TIMESTAMP") from error
