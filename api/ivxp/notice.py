"""The payment notice in its three bodies, and what all of them say."""

from __future__ import annotations

from dataclasses import dataclass

from api.config import Settings
from api.ivxp.models import DeliveryRequest, HubDeliveryRequest
from api.ivxp.parties import signed_text
from ledger.commands import Notice
from ledger.content import commitment, salted
from ledger.errors import InvalidInput, Unauthorized
from ledger.store_sqlite import ContentRow
from ledger.texts import parse_notice
from ledger.values import order_stream, parse_tx_hash

_NETWORK_ALIASES = {"base": "base-mainnet"}


@dataclass(frozen=True, slots=True)
class NoticeMessage:
    """What a client says of its payment, whichever endpoint it chose; unverified."""

    order_id: str
    tx_hash: str
    network: str
    text: str
    signature: str
    signer: str | None
    timestamp: str | None
    nonce: str | None
    delivery_endpoint: str | None


def of_delivery(message: DeliveryRequest) -> NoticeMessage:
    """Return what the protocol's own body says."""
    proof = message.payment_proof
    return NoticeMessage(
        order_id=message.order_id,
        tx_hash=proof.tx_hash,
        network=proof.network,
        text=message.signed_message,
        signature=message.signature,
        signer=proof.from_address,
        timestamp=message.timestamp,
        nonce=message.nonce,
        delivery_endpoint=message.delivery_endpoint,
    )


def of_payment(message: HubDeliveryRequest) -> NoticeMessage:
    """Return what the SDK's or the hub's body says."""
    return NoticeMessage(
        order_id=message.order_id,
        tx_hash=message.payment.tx_hash,
        network=message.payment.network,
        text=message.signature.message,
        signature=message.signature.sig,
        signer=message.signature.signer,
        timestamp=message.timestamp,
        nonce=message.nonce,
        delivery_endpoint=message.delivery_endpoint,
    )


def notice_of(said: NoticeMessage, settings: Settings) -> tuple[Notice, tuple[ContentRow, ...]]:
    """Return the parsed notice, with the text and the body in agreement on every shared field.

    Raises `InvalidInput` or `Unauthorized` for what no look at the order or the chain can mend.
    """
    if _NETWORK_ALIASES.get(said.network, said.network) != settings.network:
        raise InvalidInput(f"this provider is paid on {settings.network}", code="INVALID_NETWORK")
    text, tx_hash = parse_notice(said.text), parse_tx_hash(said.tx_hash)
    if text.order_id != said.order_id or text.tx_hash not in (None, tx_hash):
        raise Unauthorized("the signed text names another order or transaction than the body")
    if said.nonce is not None and text.nonce is not None and said.nonce != text.nonce:
        raise Unauthorized("the signed text names another nonce than the body")
    client = signed_text(said.text, said.signature, said.signer)
    if text.address not in (None, client.signer):
        raise Unauthorized("the signed text names another address than its signer")
    rows = _endpoint_rows(said)
    notice = Notice(
        client=client,
        tx_hash=tx_hash,
        nonce=text.nonce,
        stamp=text.stamp,
        delivery_endpoint_id=rows[0].content_id if rows else None,
        commit={row.field: commitment(row) for row in rows},
    )
    return notice, rows


def _endpoint_rows(said: NoticeMessage) -> tuple[ContentRow, ...]:
    if said.delivery_endpoint is None:
        return ()
    return (salted(order_stream(said.order_id), "delivery_endpoint", said.delivery_endpoint),)
