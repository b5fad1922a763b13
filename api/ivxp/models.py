"""The messages of IVXP/1.0 and 1.1 as they come and go on the wire.

Unknown fields are ignored, as the protocol's compatibility rules ask; known ones are strict.
Optional values are absent in answers, never null.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

Protocol = Literal["IVXP/1.0", "IVXP/1.1"]
Hex20 = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{40}$")]
Hex32 = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{64}$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Url = Annotated[str, StringConstraints(min_length=1, max_length=2048)]


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


class Confirmation(Message):
    """The inner part of a receipt, in the SDK's shape (signed here) or the documents' shape."""

    message: str | None = None
    signature: str | None = None
    signer: Hex20 | None = None
    received: bool | None = None
    content_hash: Annotated[str, StringConstraints(max_length=80)] | None = None
    received_at: str | None = None
    satisfaction_rating: Annotated[int, Field(ge=1, le=5)] | None = None


class ConfirmationRequest(Message):
    """POST /ivxp/orders/{id}/confirm."""

    protocol: Protocol
    message_type: Literal["delivery_confirmation"] = "delivery_confirmation"
    timestamp: str | None = None
    order_id: Name
    confirmation: Confirmation
    signature: str | None = None
    signed_message: str | None = None


class ServiceEntry(BaseModel):
    """One line of the catalog."""

    type: str
    base_price_usdc: float
    estimated_delivery_hours: float
    description: str | None = None


class CatalogResponse(BaseModel):
    """GET /ivxp/catalog."""

    protocol: str
    message_type: Literal["service_catalog"]
    timestamp: str
    provider: str
    wallet_address: str
    services: list[ServiceEntry]
    dev_chain: bool | None = None


class PaymentView(BaseModel):
    """What status says of the money where the status word does not say it; in micro-USDC."""

    outcome: Literal["pending", "orphaned"] | None = None
    claims_open: int | None = None
    pending_micros: str | None = None
    late_micros: str | None = None
    orphaned_micros: str | None = None
    refunded_micros: str | None = None


class StatusResponse(BaseModel):
    """GET /ivxp/status/{id}: the 1.0 view."""

    order_id: str
    status: Literal["quoted", "paid", "processing", "delivered", "delivery_failed"]
    created_at: str
    service_type: str
    service: str
    price_usdc: float
    content_hash: str | None = None
    expired: bool | None = None
    expires_at: str | None = None
    payment: PaymentView | None = None


class LedgerBlock(BaseModel):
    """What proves a write; see docs/http.md."""

    position: int
    leaf: str
    entry: str
    checkpoint: str
    proof: list[str]
    order_head: dict[str, str]


class QuoteResponse(BaseModel):
    """Answer of POST /ivxp/request."""

    protocol: str
    message_type: Literal["service_quote"]
    timestamp: str
    order_id: str
    provider_agent: dict[str, str]
    quote: dict[str, object]
    terms: dict[str, object]
    ledger: LedgerBlock


class AcceptedResponse(BaseModel):
    """Answer of POST /ivxp/deliver."""

    status: Literal["accepted"]
    order_id: str
    message: str
    ledger: LedgerBlock


class ConfirmedResponse(BaseModel):
    """Answer of POST /ivxp/orders/{id}/confirm."""

    status: Literal["confirmed"]
    order_id: str
    confirmed_at: str
    ledger: LedgerBlock


class DeliverableResponse(BaseModel):
    """GET /ivxp/download/{id}: the envelope and, beside it, the flat form."""

    protocol: str
    message_type: Literal["service_delivery"]
    timestamp: str
    order_id: str
    status: Literal["completed"]
    provider_agent: dict[str, str]
    deliverable: dict[str, object]
    content: str
    content_type: str
    content_hash: str
    delivered_at: str
    content_encoding: Literal["base64"] | None = None


class ErrorResponse(BaseModel):
    """Every error."""

    error: str
    message: str
    details: dict[str, object] | None = None
    retryable: bool | None = None
    ledger: LedgerBlock | None = None
