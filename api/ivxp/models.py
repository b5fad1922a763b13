"""The messages of IVXP/1.0 and 1.1 as they come.

Unknown fields are ignored, as the protocol's compatibility rules ask; known ones are strict.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

Protocol = Literal["IVXP/1.0", "IVXP/1.1"]
Hex20 = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{40}$")]
AnyWallet = Annotated[
    str, StringConstraints(pattern=r"^(?:0x[0-9a-fA-F]{40}|[1-9A-HJ-NP-Za-km-z]{32,44})$")
]
"""An EVM address, or that of a Solana wallet, whose orders come of the marketplace."""
Hex32 = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{64}$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Url = Annotated[str, StringConstraints(min_length=1, max_length=2048)]

HashText = Annotated[str, StringConstraints(max_length=80)]
Rating = Annotated[int, Field(ge=1, le=5)]
Statement = Annotated[str, StringConstraints(min_length=1, max_length=16_384)]


def _decimal_of_int(value: object) -> object:
    return Decimal(value) if type(value) is int else value


Usdc = Annotated[Decimal, BeforeValidator(_decimal_of_int)]
"""A JSON number; never a string, and never a float."""


class Message(BaseModel):
    """Any part of a client's message.

    What is signed has no limit of its own here: a text or signature of another form than the
    documented ones is refused as such, not as a field that is too long.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class ClientAgent(Message):
    """Who asks. `contact_endpoint` is where a push may be tried."""

    name: Name
    wallet_address: Hex20
    contact_endpoint: Url | None = None


class ServiceDetails(Message):
    """What is asked for, and up to which price in USDC."""

    type: Name
    description: Annotated[str, StringConstraints(min_length=1, max_length=49_152)]
    budget_usdc: Usdc
    delivery_format: Annotated[str, StringConstraints(max_length=64)] | None = None
    deadline: str | None = None


class QuoteRequest(Message):
    """POST /ivxp/request."""

    protocol: Protocol
    message_type: Literal["service_request"] = "service_request"
    timestamp: str | None = None
    client_agent: ClientAgent
    service_request: ServiceDetails


class PaymentProof(Message):
    """What the client says of its payment. Other members are ignored: the chain says the rest."""

    tx_hash: Hex32
    from_address: Hex20
    network: Name


class DeliveryRequest(Message):
    """POST /ivxp/deliver."""

    protocol: Protocol
    message_type: Literal["delivery_request"] = "delivery_request"
    timestamp: str | None = None
    order_id: Name
    payment_proof: PaymentProof
    signature: str
    signed_message: str
    nonce: str | None = None
    delivery_endpoint: Url | None = None


class SignedPart(Message):
    """A text and its signature, as the SDK nests them. `signer` must be who signed, if given."""

    message: str
    sig: str
    signer: Hex20 | None = None


class PaymentPart(Message):
    """The transaction. `amount_usdc` and other members are ignored: the chain says the rest."""

    tx_hash: Hex32
    network: Name


class HubDeliveryRequest(Message):
    """POST /ivxp/orders/{id}/delivery, as the browser hub gives notice."""

    protocol: Protocol | None = None
    timestamp: str | None = None
    order_id: Name
    payment: PaymentPart
    signature: SignedPart
    nonce: str | None = None
    delivery_endpoint: Url | None = None


class PaymentRequest(HubDeliveryRequest):
    """POST /ivxp/orders/{id}/payment, as the TypeScript SDK gives notice."""

    protocol: Protocol
    message_type: Literal["payment_proof"] = "payment_proof"


class Confirmation(Message):
    """The inner part of a receipt, in the SDK's shape (signed here) or the documents' shape."""

    message: str | None = None
    signature: str | None = None
    signer: AnyWallet | None = None
    received: bool | None = None
    content_hash: HashText | None = None
    received_at: str | None = None
    satisfaction_rating: Rating | None = None


class ConfirmationRequest(Message):
    """POST /ivxp/orders/{id}/confirm, in any shape that a client sends.

    The SDK signs inside `confirmation`; the documents sign beside it; the oldest form has no
    `confirmation` at all and says `status`, `content_hash` and the rating at the top.
    """

    protocol: Protocol
    message_type: Literal["delivery_confirmation"] = "delivery_confirmation"
    timestamp: str | None = None
    order_id: Name
    confirmation: Confirmation = Confirmation()
    signature: str | None = None
    signed_message: str | None = None
    status: str | None = None
    content_hash: HashText | None = None
    satisfaction_rating: Rating | None = None


class SignedRequest(Message):
    """POST …/dispute/withdraw and …/dispute/ruling: a signed text says it all."""

    protocol: Protocol
    timestamp: str | None = None
    order_id: Name
    signature: str
    signed_message: str


class DisputePart(Message):
    """The inner part of a dispute. `statement` is the text whose SHA-256 the signed text names."""

    message: str | None = None
    signature: str | None = None
    signer: AnyWallet | None = None
    statement: Statement | None = None


class DisputeRequest(Message):
    """POST /ivxp/orders/{id}/dispute, signed inside `dispute` or beside it."""

    protocol: Protocol
    message_type: Literal["delivery_dispute"] = "delivery_dispute"
    timestamp: str | None = None
    order_id: Name
    dispute: DisputePart = DisputePart()
    signature: str | None = None
    signed_message: str | None = None
