"""Checks a signed Solana token transfer before anybody submits it, and the header it comes in.

Everything here is offline and believes only what is signed: the header's own words beside the
transaction are read, and prove nothing.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic import ValidationError as FormError

from ledger.errors import InvalidInput, LedgerError, PaymentRefused, Unauthorized
from ledger.solana_rules import require_amount, transfer_of
from ledger.solana_wire import (
    BASE64,
    NoPayment,
    SolanaTransaction,
    key_of,
    transaction_bytes,
)

MAX_HEADER: Final = 8192
CODE: Final = "INVALID_PAYMENT_HEADER"
WHOLE: Final = "paymentHeader"
TRANSACTION_FIELD: Final = "payload.signedTransaction"
_IS_MICROS = re.compile(r"0|[1-9][0-9]{0,19}")
_IS_SECONDS = re.compile(r"[0-9]{1,16}")


class SolanaMissing(LedgerError):
    """The package that reads Solana transactions is not installed here."""

    code = "SOLANA_EXTRA_MISSING"


def _key(value: object) -> object:
    if isinstance(value, str):
        key_of(value)
    return value


def _number(value: object) -> object:
    return int(value) if isinstance(value, str) and _IS_SECONDS.fullmatch(value) else value


def _micros(value: object) -> object:
    return int(value) if isinstance(value, str) and _IS_MICROS.fullmatch(value) else None


_MODEL: Final = ConfigDict(frozen=True, strict=True)
_Key = Annotated[str, BeforeValidator(_key)]
_Micros = Annotated[int, BeforeValidator(_micros), Field(le=2**64 - 1)]
_Seconds = Annotated[int, BeforeValidator(_number), Field(ge=0, le=2**53 - 1)]
# `Literal[1]` would take true and 1.0, too.
_One = Annotated[int, Field(ge=1, le=1)]


class _Authorization(BaseModel):
    model_config = _MODEL

    sender: _Key = Field(alias="from")
    recipient: _Key = Field(alias="to")
    value: _Micros
    asset: _Key
    valid_before: _Seconds = Field(alias="validBefore")


class _Payload(BaseModel):
    model_config = _MODEL

    authorization: _Authorization
    transaction: str = Field(alias="signedTransaction", min_length=1)


class _Header(BaseModel):
    model_config = _MODEL

    version: _One = Field(alias="x402Version")
    scheme: Literal["exact"]
    network: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9:_-]{1,64}$")]
    payload: _Payload


@dataclass(frozen=True, slots=True)
class X402Header:
    """What a payment header says. Only `transaction` is signed; the rest is the sender's word.

    Clients name the devnet whatever network they pay on, so `network` decides nothing either:
    the mint and the blockhash do.
    """

    network: str
    sender: str
    recipient: str
    value: int
    asset: str
    valid_before: int
    transaction: str


@dataclass(frozen=True, slots=True)
class SignedTransfer:
    """A payment that can be submitted as it is. `payer` signed for the tokens."""

    signature: str
    payer: str
    fee_payer: str
    source: str
    destination: str
    amount: int
    blockhash: str
    transaction: str


def read_header(header: str) -> X402Header:
    """Return the parts of an x402 payment header, or raise `InvalidInput` naming the wrong one."""
    value = _strict_json(_decoded(header))
    try:
        parsed = _Header.model_validate(value)
    except FormError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise _invalid(".".join(str(part) for part in first["loc"]), first["msg"]) from error
    said = parsed.payload.authorization
    try:
        transaction_bytes(parsed.payload.transaction)
    except NoPayment as error:
        raise _refusal(error) from error
    return X402Header(
        network=parsed.network,
        sender=said.sender,
        recipient=said.recipient,
        value=said.value,
        asset=said.asset,
        valid_before=said.valid_before,
        transaction=parsed.payload.transaction,
    )


def verify_transfer(
    transaction_base64: str, *, mint: str, recipient_wallet: str, due_micros: int
) -> SignedTransfer:
    """Return the signed transfer that pays what is due into the recipient's own token account.

    Raises `InvalidInput` for what is no transaction, `Unauthorized` for a signature that is
    missing or wrong, and `PaymentRefused` for everything else that is not this payment.
    """
    read, amount = require_solana(), 0
    try:
        transaction = read(transaction_bytes(transaction_base64))
        transfer = transfer_of(transaction, mint=mint, recipient=recipient_wallet)
        amount = transfer.amount
        require_amount(amount, due_micros)
    except NoPayment as error:
        raise _refusal(error, due=due_micros, amount=amount) from error
    return SignedTransfer(
        signature=transfer.signature,
        payer=transfer.payer,
        fee_payer=transfer.fee_payer,
        source=transfer.source,
        destination=transfer.destination,
        amount=transfer.amount,
        blockhash=transfer.blockhash,
        transaction=transaction_base64,
    )


def require_solana() -> Callable[[bytes], SolanaTransaction]:
    """Return what reads signed transactions, or raise `SolanaMissing`."""
    try:
        # Only a marketplace that takes Solana payments has to install what this imports.
        from ledger.solana_signed import read_signed  # noqa: PLC0415 - see above
    except ImportError as error:
        msg = "Solana payments need the extra: pip install 'ivxp-ledger[solana]'"
        raise SolanaMissing(msg) from error
    return read_signed


def _decoded(header: str) -> bytes:
    if len(header) > MAX_HEADER or not BASE64.fullmatch(header):
        raise _invalid(WHOLE, f"the payment header is no base64 of at most {MAX_HEADER} characters")
    try:
        raw = base64.b64decode(header, validate=True)
    except binascii.Error:
        raw = b""
    if base64.b64encode(raw).decode() != header:
        raise _invalid(WHOLE, "the payment header is not in the one form of base64")
    return raw


def _strict_json(raw: bytes) -> object:
    try:
        return json.loads(raw.decode(), object_pairs_hook=_unique, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise _invalid(WHOLE, "the payment header is no strict JSON") from error


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        msg = "a key is repeated"
        raise ValueError(msg)
    return found


def _no_number(text: str) -> object:
    msg = f"{text} is no number"
    raise ValueError(msg)


def _invalid(field: str, text: str) -> InvalidInput:
    return InvalidInput(text, code=CODE, details={"field": field or WHOLE})


def _refusal(error: NoPayment, **amounts: int) -> LedgerError:
    text, details = str(error), {"reason": error.reason}
    match error.kind:
        case "malformed":
            return _invalid(TRANSACTION_FIELD, text)
        case "signature":
            return Unauthorized(text, code="INVALID_SIGNATURE", details=details)
        case "amount":
            told = {name: str(micros) for name, micros in amounts.items()}
            return PaymentRefused(text, code="AMOUNT_MISMATCH", details={**details, **told})
        case _:
            return PaymentRefused(text, code=CODE, details=details)
