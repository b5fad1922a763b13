"""The IVXP routes: both endpoint profiles and their mixtures, each act with one handler."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel

from api.ivxp import models, responses
from api.ivxp.confirm import post_confirm
from api.ivxp.deliver import post_deliver, post_delivery, post_payment
from api.ivxp.dispute import post_dispute, post_ruling, post_withdrawal
from api.ivxp.orders import get_download, get_status
from api.ivxp.quote import get_catalog, post_request
from api.ivxp.stream import get_stream
from api.routes import Route, RouteHandler


def _get(path: str, handler: RouteHandler, summary: str, response: type[BaseModel]) -> Route:
    return Route("GET", path, handler, summary, response=response)


def _post(
    path: str,
    handler: RouteHandler,
    summary: str,
    request: type[BaseModel],
    response: type[BaseModel],
) -> Route:
    return Route("POST", path, handler, summary, request, response, writes=True)


def _notice(path: str, handler: RouteHandler, request: type[BaseModel]) -> Route:
    summary = "Give notice of the payment"
    return _post(path, handler, summary, request, responses.AcceptedResponse)


def _confirm(path: str) -> Route:
    summary = "Sign for the deliverable"
    return _post(
        path, post_confirm, summary, models.ConfirmationRequest, responses.ConfirmedResponse
    )


def _status(path: str) -> Route:
    return _get(path, get_status, "Status of an order", responses.StatusResponse)


def _download(path: str) -> Route:
    return _get(path, get_download, "Collect the deliverable", responses.DeliverableResponse)


IVXP_ROUTES: Final = [
    _get("/ivxp/catalog", get_catalog, "What is sold", responses.CatalogResponse),
    _post(
        "/ivxp/request",
        post_request,
        "Ask for a quote",
        models.QuoteRequest,
        responses.QuoteResponse,
    ),
    _notice("/ivxp/deliver", post_deliver, models.DeliveryRequest),
    _notice("/ivxp/orders/{order_id}/payment", post_payment, models.PaymentRequest),
    _notice("/ivxp/orders/{order_id}/delivery", post_delivery, models.HubDeliveryRequest),
    _status("/ivxp/status/{order_id}"),
    _status("/ivxp/orders/{order_id}"),
    _download("/ivxp/download/{order_id}"),
    _download("/ivxp/orders/{order_id}/deliverable"),
    _confirm("/ivxp/orders/{order_id}/confirm"),
    _confirm("/ivxp/confirm"),
    _post(
        "/ivxp/orders/{order_id}/dispute",
        post_dispute,
        "Dispute the delivery",
        models.DisputeRequest,
        responses.DisputedResponse,
    ),
    _post(
        "/ivxp/orders/{order_id}/dispute/withdraw",
        post_withdrawal,
        "Withdraw a dispute",
        models.SignedRequest,
        responses.DisputeClosedResponse,
    ),
    _post(
        "/ivxp/orders/{order_id}/dispute/ruling",
        post_ruling,
        "Rule on a dispute",
        models.SignedRequest,
        responses.DisputeClosedResponse,
    ),
    Route(
        "GET",
        "/ivxp/stream/{order_id}",
        get_stream,
        "Follow an order",
        media_type="text/event-stream",
    ),
]
