"""Who speaks of which order: the guards that every signed message passes."""

from __future__ import annotations

from aiohttp import web

from ledger.errors import InvalidInput, NotFound, Unauthorized
from ledger.event import ClientText
from ledger.order import Order
from ledger.service import Ledger
from ledger.signing import normalise_signature, recover
from ledger.values import address_of, is_order_id
from ledger.wallets import is_solana, parse_ed25519_signature, stored_ed25519, verify_ed25519


async def known_order(ledger: Ledger, order_id: str) -> Order:
    """Return an order as committed, or raise `NotFound`; a malformed id is not found either."""
    order = await ledger.order(order_id) if is_order_id(order_id) else None
    if order is None:
        raise NotFound("no order has this id")
    return order


def require_same_order(request: web.Request, order_id: str) -> None:
    """Raise `InvalidInput` if the path names an order, and another one than the body."""
    if request.match_info.get("order_id", order_id) != order_id:
        raise InvalidInput("order_id: the path names another order", details={"field": "order_id"})


def signed_text(text: str, signature: str, claimed_signer: str | None) -> ClientText:
    """Return a client's text with its normal-form signature and the recovered signer.

    Raises `Unauthorized` for every other signature form, or if the body names another signer.
    """
    normal = normalise_signature(signature)
    signer = recover(text.encode(), normal)
    if claimed_signer is not None and claimed_signer.lower() != signer:
        raise Unauthorized("the signature is not that of the named signer")
    return ClientText(text=text, signature=normal, signer=signer)


def text_of_wallet(
    wallet: str, text: str, signature: str, claimed_signer: str | None = None
) -> ClientText:
    """Return a text that is to be this wallet's, which may be one of Solana.

    An Ed25519 signature names nobody, so it is judged against that wallet alone. Of an EVM wallet
    it comes out here who signed, and whether that one may is judged where it is decided.
    """
    if not is_solana(wallet):
        return signed_text(text, signature, claimed_signer)
    if claimed_signer not in (None, wallet):
        raise Unauthorized("the signature is not that of the named signer")
    raw = parse_ed25519_signature(signature)
    verify_ed25519(wallet, text.encode(), raw)
    return ClientText(text=text, signature=stored_ed25519(raw), signer=wallet)


def client_text(
    order: Order,
    inner: tuple[str | None, str | None],
    outer: tuple[str | None, str | None],
    signer: str | None,
) -> ClientText:
    """Return the client's signed text: the SDK nests text and signature, the documents do not.

    A signature belongs to the text beside it, so the pairs are not mixed.
    """
    text, signature = inner if inner[1] is not None else outer
    if text is None or signature is None:
        raise Unauthorized("the message carries no signed text")
    return text_of_wallet(address_of(order.client), text, signature, signer)
