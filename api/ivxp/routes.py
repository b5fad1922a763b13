"""The IVXP routes."""

from __future__ import annotations

from typing import Final

from api.ivxp import models
from api.ivxp.deliver import post_deliver
from api.ivxp.orders import get_download, get_status, post_confirm
from api.ivxp.quote import get_catalog, post_request
from api.routes import Route

IVXP_ROUTES: Final = [
    Route("GET", "/ivxp/catalog", get_catalog, "What is sold", response=models.CatalogResponse),
    Route(
        "POST",
        "/ivxp/request",
        post_request,
        "Ask for a quote",
        request=models.QuoteRequest,
        response=models.QuoteResponse,
        writes=True,
    ),
    Route(
        "POST",
        "/ivxp/deliver",
        post_deliver,
        "Give notice of the payment",
        request=models.DeliveryRequest,
        response=models.AcceptedResponse,
        writes=True,
    ),
    Route(
        "GET",
        "/ivxp/status/{order_id}",
        get_status,
        "Status of an order",
        response=models.StatusResponse,
    ),
    Route(
        "GET",
        "/ivxp/orders/{order_id}",
        get_status,
        "Status of an order",
        response=models.StatusResponse,
    ),
    Route(
        "GET",
        "/ivxp/download/{order_id}",
        get_download,
        "Collect the deliverable",
        response=models.DeliverableResponse,
    ),
    Route(
        "GET",
        "/ivxp/orders/{order_id}/deliverable",
        get_download,
        "Collect the deliverable",
        response=models.DeliverableResponse,
    ),
    Route(
        "POST",
        "/ivxp/orders/{order_id}/confirm",
        post_confirm,
        "Sign for the deliverable",
        request=models.ConfirmationRequest,
        response=models.ConfirmedResponse,
        writes=True,
    ),
    Route(
        "POST",
        "/ivxp/confirm",
        post_confirm,
        "Sign for the deliverable",
        request=models.ConfirmationRequest,
        response=models.ConfirmedResponse,
        writes=True,
    ),
]
