"""What the TypeScript SDK requires of each answer. Returns the parsed members, or raises."""

from __future__ import annotations

from typing import Any

from tests.clients import checks as c
from tests.clients.checks import Mismatch

PROTOCOL = "IVXP/1.0"
STATUSES = ("quoted", "paid", "processing", "delivered", "delivery_failed")


def catalog(body: object) -> dict[str, Any]:
    found = c.members(
        body,
        "catalog",
        {
            "protocol": c.exactly(PROTOCOL),
            "provider": c.text,
            "wallet_address": c.address,
            "services": c.anything,
        },
        {
            "capabilities": c.texts,
            "message_type": c.exactly("service_catalog"),
            "timestamp": c.time,
        },
    )
    c.require(isinstance(found["services"], list), "catalog.services", "a list")
    found["services"] = [_service(entry) for entry in found["services"]]
    return found


def _service(entry: object) -> dict[str, Any]:
    return c.members(
        entry,
        "catalog.services[]",
        {
            "type": c.text,
            "base_price_usdc": c.not_negative,
            "estimated_delivery_hours": c.positive,
        },
    )


def quote(body: object) -> dict[str, Any]:
    found = c.members(
        body,
        "quote",
        {
            "protocol": c.exactly(PROTOCOL),
            "message_type": c.exactly("service_quote"),
            "timestamp": c.time,
            "order_id": c.text,
            "provider_agent": c.anything,
            "quote": c.anything,
        },
        {"terms": c.anything},
    )
    found["provider_agent"] = _agent(found["provider_agent"], "quote.provider_agent")
    found["quote"] = c.members(
        found["quote"],
        "quote.quote",
        {
            "price_usdc": c.positive,
            "estimated_delivery": c.time,
            "payment_address": c.address,
            "network": c.network,
        },
        {"token_contract": c.address},
    )
    if "terms" in found:
        found["terms"] = c.members(
            found["terms"],
            "quote.terms",
            {},
            {
                "payment_timeout": c.positive_integer,
                "revision_policy": c.any_text,
                "refund_policy": c.any_text,
            },
        )
    return found


def _agent(value: object, where: str) -> dict[str, Any]:
    required: dict[str, c.Check] = {"name": c.any_text, "wallet_address": c.address}
    return c.members(value, where, required, {"public_key": c.hexadecimal})


def stream_url(body: object) -> str | None:
    """Return where an accepted order can be followed.

    An acceptance of any other form is no error: the SDK then polls, and nobody learns why.
    """
    required: dict[str, c.Check] = {
        "status": c.exactly("accepted"),
        "order_id": c.text,
        "message": c.text,
    }
    try:
        found = c.members(body, "acceptance", required, {"stream_url": c.absolute_url})
    except Mismatch:
        return None
    return found.get("stream_url")


def status(body: object) -> dict[str, Any]:
    return c.members(
        body,
        "status",
        {
            "order_id": c.any_text,
            "status": c.one_of(*STATUSES),
            "created_at": c.time,
            "service_type": c.text,
            "price_usdc": c.not_negative,
        },
    )


def deliverable(body: object, order_id: str) -> dict[str, Any]:
    """Check the envelope. `content_hash` may be any text: the SDK does not verify it here."""
    found = c.members(
        body,
        "deliverable",
        {
            "protocol": c.exactly(PROTOCOL),
            "message_type": c.exactly("service_delivery"),
            "timestamp": c.time,
            "order_id": c.exactly(order_id),
            "status": c.exactly("completed"),
            "provider_agent": c.anything,
            "deliverable": c.anything,
        },
        {
            "content_hash": c.any_text,
            "delivered_at": c.time,
            "signature": c.signature,
            "signed_message": c.any_text,
        },
    )
    found["provider_agent"] = _agent(found["provider_agent"], "deliverable.provider_agent")
    found["deliverable"] = c.members(
        found["deliverable"],
        "deliverable.deliverable",
        {"type": c.text, "content": c.anything},
        {"format": c.any_text},
    )
    return found


def confirmed(body: object) -> dict[str, Any]:
    required: dict[str, c.Check] = {"status": c.exactly("confirmed"), "confirmed_at": c.time}
    return c.members(body, "confirmation", required)
