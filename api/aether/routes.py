"""The marketplace's routes, each also below `/api`, and with a token in the path."""

from __future__ import annotations

from typing import Final

from api.aether import agents, delivered, inboxes, offers, paying, talks
from api.aether.errors import PaymentsDisabled
from api.aether.queries import (
    AgentQuery,
    DeliveriesQuery,
    HistoryQuery,
    NameQuery,
    OrdersQuery,
    PageQuery,
    SearchQuery,
    WalletQuery,
)
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
    CancelRequest,
    CounterRequest,
    DeclineRequest,
    DeliverRequest,
    MessageRequest,
    OfferRequest,
    ProfilePatch,
    ProfileRequest,
    RegisterRequest,
    ReviewRequest,
    ServiceRequest,
    ServicesRequest,
    StartRequest,
    WalletRequest,
)
from api.aether.route_forms import CLAIMS, read, write
from ledger.errors import (
    ChainUnavailable,
    NotFound,
    PaymentPending,
    PaymentRefused,
    Unauthorized,
)
from ledger.spl import SolanaMissing

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
    write(
        "POST",
        "/agents/register",
        agents.post_register,
        "Register an agent",
        RegisterRequest,
        AgentReply,
    ),
    read(
        "/agents/by-wallet-and-name",
        agents.get_by_name,
        "Find one's own agent",
        AgentShown,
        NameQuery,
        errors=_MISSING,
    ),
    write(
        "POST", "/agents/services", agents.post_service, "Add a service", ServiceRequest, AgentReply
    ),
    write(
        "PUT",
        "/agents/services",
        agents.put_services,
        "Replace the services",
        ServicesRequest,
        AgentReply,
    ),
    write(
        "PUT",
        "/agents/profile",
        agents.put_profile,
        "Change the profile",
        ProfileRequest,
        AgentReply,
    ),
    read("/agents/search", agents.get_search, "Find agents", AgentsReply, SearchQuery),
    read(
        "/agents/stats",
        agents.get_stats,
        "Figures of one's own agents",
        StatsReply,
        AgentQuery,
        errors=_MISSING,
    ),
    read(
        "/agents/messages/new",
        inboxes.get_agent_messages,
        "Messages to an agent, once each",
        TalkedMessagesReply,
        AgentQuery,
        errors=CLAIMS | _MISSING,
    ),
    read(
        "/agents/orders/paid",
        inboxes.get_paid_orders,
        "Paid orders, once each",
        OrdersReply,
        AgentQuery,
        errors=CLAIMS | _MISSING,
    ),
    read(_AGENT, agents.get_agent, "An agent", AgentShown),
    write(
        "PATCH", _AGENT, agents.patch_agent, "Change an agent's profile", ProfilePatch, AgentReply
    ),
    write(
        "DELETE",
        _AGENT,
        agents.delete_agent,
        "Take an agent out of the search",
        WalletRequest,
        AgentReply,
        body_optional=True,
    ),
    read(f"{_AGENT}/stats", agents.get_stats, "Figures of an agent", StatsReply, AgentQuery),
    write(
        "POST",
        "/conversations",
        talks.post_conversation,
        "Talk to an agent",
        StartRequest,
        ConversationReply,
    ),
    read(
        "/conversations",
        talks.get_conversations,
        "One's conversations",
        ConversationsReply,
        PageQuery,
    ),
    read(_TALK, talks.get_conversation, "A conversation", ConversationShown, WalletQuery),
    write(
        "POST",
        f"{_TALK}/messages",
        talks.post_message,
        "Write a message",
        MessageRequest,
        MessageReply,
    ),
    read(f"{_TALK}/messages", talks.get_messages, "What was said", MessagesReply, HistoryQuery),
    read(
        f"{_TALK}/messages/new",
        inboxes.get_client_messages,
        "Messages to the client, once each",
        MessagesReply,
        WalletQuery,
        errors=CLAIMS,
    ),
    read(
        f"{_TALK}/deliveries",
        inboxes.get_deliveries,
        "What was delivered",
        DeliveriesReply,
        DeliveriesQuery,
    ),
    read(
        f"{_TALK}/deliveries/new",
        inboxes.get_new_deliveries,
        "Deliveries, once each",
        DeliveriesReply,
        WalletQuery,
        errors=CLAIMS,
    ),
    write("POST", "/orders", offers.post_order, "Offer terms", OfferRequest, OrderReply),
    read("/orders", offers.get_orders, "One's orders", OrdersReply, OrdersQuery),
    read(_ORDER, offers.get_order, "An order", OrderShown, WalletQuery),
    write(
        "POST",
        f"{_ORDER}/accept",
        paying.post_accept,
        "Accept and pay",
        AcceptRequest,
        OrderReply,
        errors=_PAID,
    ),
    write(
        "POST",
        f"{_ORDER}/decline",
        offers.post_decline,
        "Decline an offer",
        DeclineRequest,
        OrderReply,
    ),
    write(
        "POST",
        f"{_ORDER}/cancel",
        offers.post_cancel,
        "Take an offer back",
        CancelRequest,
        OrderReply,
    ),
    write(
        "POST",
        f"{_ORDER}/counter-offer",
        offers.post_counter,
        "Ask for other terms",
        CounterRequest,
        OrderReply,
    ),
    write(
        "POST",
        f"{_ORDER}/deliver",
        delivered.post_deliver,
        "Deliver",
        DeliverRequest,
        OrderReply,
        bytes_are_the_key=True,
        long_body=True,
    ),
    write("POST", f"{_ORDER}/review", offers.post_review, "Review", ReviewRequest, OrderReply),
]
