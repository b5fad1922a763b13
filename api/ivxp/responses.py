"""The messages of IVXP/1.0 and 1.1 as they go. Optional values are absent, never null."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


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
    capabilities: list[str] | None = None
    dev_chain: bool | None = None


class PaymentView(BaseModel):
    """What status says of the money where the status word does not say it; in micro-USDC."""

    outcome: Literal["pending", "orphaned"] | None = None
    claims_open: int | None = None
    pending_micros: str | None = None
    late_micros: str | None = None
    orphaned_micros: str | None = None
    refunded_micros: str | None = None


Word = Literal[
    "quoted",
    "paid",
    "processing",
    "delivered",
    "delivery_failed",
    "expired",
    "ready",
    "posted",
    "client_confirmed",
    "disputed",
    "refunded",
]
"""The first five are all that a 1.0 client sees."""


class StatusResponse(BaseModel):
    """GET /ivxp/status/{id}. Which members there are depends on the view that was asked for."""

    protocol: Literal["IVXP/1.1"] | None = None
    order_id: str
    status: Word
    status_details: dict[str, str] | None = None
    client_satisfaction: int | None = None
    closed_without_objection: bool | None = None
    dispute: dict[str, object] | None = None
    created_at: str | None = None
    service_type: str
    service: str | None = None
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
    ledger: LedgerBlock | None = None


class AcceptedResponse(BaseModel):
    """Answer of POST /ivxp/deliver."""

    status: Literal["accepted"]
    order_id: str
    message: str
    stream_url: str | None = None
    ledger: LedgerBlock | None = None


class ConfirmedResponse(BaseModel):
    """Answer of POST /ivxp/orders/{id}/confirm."""

    status: Literal["confirmed"]
    order_id: str
    confirmed_at: str
    order_status: Literal["client_confirmed"] | None = None
    ledger: LedgerBlock | None = None


class DisputeClosedResponse(BaseModel):
    """How a dispute ended. `amount_micros` of a ruling is due back: a refund fulfils it."""

    order_id: str
    status: str
    dispute: Literal["withdrawn", "ruled"]
    outcome: Literal["client", "provider", "split"] | None = None
    amount_micros: str | None = None
    ledger: LedgerBlock | None = None


class DisputedResponse(BaseModel):
    """Answer of POST /ivxp/orders/{id}/dispute."""

    status: Literal["disputed"]
    order_id: str
    disputed_at: str
    ledger: LedgerBlock | None = None


class DeliverableResponse(BaseModel):
    """GET /ivxp/download/{id}: the envelope and, beside it, the flat form."""

    protocol: str
    message_type: Literal["service_delivery"]
    timestamp: str
    order_id: str
    status: Literal["completed"]
    provider_agent: dict[str, str]
    deliverable: dict[str, object]
    content: str | None = None
    content_type: str | None = None
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
