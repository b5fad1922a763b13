"""The marketplace's routes, each also below `/api`, and with a token in the path."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from api.aether import agents, delivered, inboxes, offers, paying, talks
from api.aether.errors import WORDS, PaymentsDisabled
from api.aether.proof import NotYourWallet, ProofRefused, SignatureRefused
from api.aether.replies import (
    AgentReply,
    AgentShown,
    AgentsReply,
    ConversationReply,
    ConversationShown,
    ConversationsReply,
    DeliveriesReply,
    MessageReply,
    MessagesReply,
    OrderReply,
    OrderShown,
    OrdersReply,
    StatsReply,
    TalkedMessagesReply,
)
from api.aether.requests import (
    AcceptRequest,
    AgentQuery,
    CancelRequest,
    CounterRequest,
    DeclineRequest,
    DeliverRequest,
    HistoryQuery,
    MessageRequest,
    NameQuery,
    OfferRequest,
    OrdersQuery,
    PageQuery,
    ProfilePatch,
    ProfileRequest,
    RegisterRequest,
    ReviewRequest,
    SearchQuery,
    ServiceRequest,
    ServicesRequest,
    StartRequest,
    WalletQuery,
    WalletRequest,
)
from api.routes import Route, RouteHandler
from ledger.errors import (
    ChainUnavailable,
    Conflict,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    PaymentPending,
    PaymentRefused,
    Rejected,
    StoreUnavailable,
    Unauthorized,
)
from ledger.spl import SolanaMissing

MOUNTS: Final = ("", "/api", "/t/{token}", "/t/{token}/api")

_WHO: Final = frozenset({ProofRefused, SignatureRefused, NotYourWallet})
_CLAIMS: Final = frozenset({Overloaded, OutcomeUnknown, StoreUnavailable, Conflict})
_DECIDED: Final = frozenset({NotFound, Conflict, Rejected})


def _read(
    path: str,
    handler: RouteHandler,
    summary: str,
    response: type[BaseModel],
    query: type[BaseModel] | None = None,
    **more: Any,  # noqa: ANN401 - the rest of a route
) -> Route:
    errors = more.pop("errors", frozenset()) | _WHO | {InvalidInput}
    return Route(
        "GET",
        path,
        handler,
        summary,
        response=response,
        query=query,
        errors=errors,
        mounts=MOUNTS,
        words=WORDS,
        **more,
    )


def _write(
    method: str,
    path: str,
    handler: RouteHandler,
    summary: str,
    request: type[BaseModel],
    response: type[BaseModel],
    **more: Any,  # noqa: ANN401 - the rest of a route
) -> Route:
    errors = more.pop("errors", frozenset()) | _WHO | _DECIDED
    return Route(
        method,
        path,
        handler,
        summary,
        request,
        response,
        writes=True,
        errors=errors,
        mounts=MOUNTS,
        words=WORDS,
        **more,
    )


_AGENT: Final = "/agents/{agent_id}"
_TALK: Final = "/conversations/{conversation_id}"
_ORDER: Final = "/orders/{order_id}"
_MISSING: Final = frozenset({NotFound})
_PAID: Final = frozenset(
    {
        PaymentsDisabled,
        PaymentRefused,
        PaymentPending,
        SolanaMissing,
        Unauthorized,
        ChainUnavailable,
    }
)

MARKET_ROUTES: Final = [
    _write(
        "POST",
        "/agents/register",
        agents.post_register,
        "Register an agent",
        RegisterRequest,
        AgentReply,
    ),
    _read(
        "/agents/by-wallet-and-name",
        agents.get_by_name,
        "Find one's own agent",
        AgentShown,
        NameQuery,
        errors=_MISSING,
    ),
    _write(
        "POST", "/agents/services", agents.post_service, "Add a service", ServiceRequest, AgentReply
    ),
    _write(
        "PUT",
        "/agents/services",
        agents.put_services,
        "Replace the services",
        ServicesRequest,
        AgentReply,
    ),
    _write(
        "PUT",
        "/agents/profile",
        agents.put_profile,
        "Change the profile",
        ProfileRequest,
        AgentReply,
    ),
    _read("/agents/search", agents.get_search, "Find agents", AgentsReply, SearchQuery),
    _read(
        "/agents/stats",
        agents.get_stats,
        "Figures of one's own agents",
        StatsReply,
        AgentQuery,
        errors=_MISSING,
    ),
    _read(
        "/agents/messages/new",
        inboxes.get_agent_messages,
        "Messages to an agent, once each",
        TalkedMessagesReply,
        AgentQuery,
        errors=_CLAIMS | _MISSING,
    ),
    _read(
        "/agents/orders/paid",
        inboxes.get_paid_orders,
        "Paid orders, once each",
        OrdersReply,
        AgentQuery,
        errors=_CLAIMS | _MISSING,
    ),
    _read(_AGENT, agents.get_agent, "An agent", AgentShown),
    _write(
        "PATCH", _AGENT, agents.patch_agent, "Change an agent's profile", ProfilePatch, AgentReply
    ),
    _write(
        "DELETE",
        _AGENT,
        agents.delete_agent,
        "Take an agent out of the search",
        WalletRequest,
        AgentReply,
        body_optional=True,
    ),
    _read(f"{_AGENT}/stats", agents.get_stats, "Figures of an agent", StatsReply, AgentQuery),
    _write(
        "POST",
        "/conversations",
        talks.post_conversation,
        "Talk to an agent",
        StartRequest,
        ConversationReply,
    ),
    _read(
        "/conversations",
        talks.get_conversations,
        "One's conversations",
        ConversationsReply,
        PageQuery,
    ),
    _read(_TALK, talks.get_conversation, "A conversation", ConversationShown, WalletQuery),
    _write(
        "POST",
        f"{_TALK}/messages",
        talks.post_message,
        "Write a message",
        MessageRequest,
        MessageReply,
    ),
    _read(f"{_TALK}/messages", talks.get_messages, "What was said", MessagesReply, HistoryQuery),
    _read(
        f"{_TALK}/messages/new",
        inboxes.get_client_messages,
        "Messages to the client, once each",
        MessagesReply,
        WalletQuery,
        errors=_CLAIMS,
    ),
    _read(
        f"{_TALK}/deliveries",
        inboxes.get_deliveries,
        "What was delivered",
        DeliveriesReply,
        WalletQuery,
    ),
    _read(
        f"{_TALK}/deliveries/new",
        inboxes.get_new_deliveries,
        "Deliveries, once each",
        DeliveriesReply,
        WalletQuery,
        errors=_CLAIMS,
    ),
    _write("POST", "/orders", offers.post_order, "Offer terms", OfferRequest, OrderReply),
    _read("/orders", offers.get_orders, "One's orders", OrdersReply, OrdersQuery),
    _read(_ORDER, offers.get_order, "An order", OrderShown, WalletQuery),
    _write(
        "POST",
        f"{_ORDER}/accept",
        paying.post_accept,
        "Accept and pay",
        AcceptRequest,
        OrderReply,
        errors=_PAID,
    ),
    _write(
        "POST",
        f"{_ORDER}/decline",
        offers.post_decline,
        "Decline an offer",
        DeclineRequest,
        OrderReply,
    ),
    _write(
        "POST",
        f"{_ORDER}/cancel",
        offers.post_cancel,
        "Take an offer back",
        CancelRequest,
        OrderReply,
    ),
    _write(
        "POST",
        f"{_ORDER}/counter-offer",
        offers.post_counter,
        "Ask for other terms",
        CounterRequest,
        OrderReply,
    ),
    _write(
        "POST",
        f"{_ORDER}/deliver",
        delivered.post_deliver,
        "Deliver",
        DeliverRequest,
        OrderReply,
        bytes_are_the_key=True,
    ),
    _write("POST", f"{_ORDER}/review", offers.post_review, "Review", ReviewRequest, OrderReply),
]
