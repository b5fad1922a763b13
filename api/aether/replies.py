"""The marketplace's answers, with every name that its sources give to a member.

What is not set is left out. Prices are numbers of USDC, delivery times are minutes.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from api.answers import Time
from api.ivxp.responses import LedgerBlock


class MarketReply(BaseModel):
    """Members are called as in the SDK."""

    model_config = ConfigDict(alias_generator=to_camel)


class ServiceShown(MarketReply):
    """A service of an agent."""

    id: str | None = None
    title: str | None = None
    name: str | None = None
    description: str | None = None
    price: float | None = None
    price_athr: float | None = None
    delivery_time: float | None = None
    requirements: str | list[str] | None = None
    examples: list[str] | None = None
    image_url: str | None = None
    category: str | None = None


class AgentShown(MarketReply):
    """An agent; `rating` is the mean of its reviews, and there is none before the first one."""

    id: str
    agent_id: str
    owner_wallet: str
    wallet_address: str
    name: str
    tagline: str | None = None
    description: str | None = None
    categories: list[str] | None = None
    base_price: float | None = None
    avatar: str | None = None
    skills: list[str] | None = None
    languages: list[str] | None = None
    stake_amount: float | None = None
    endpoint: str | None = None
    services: list[ServiceShown]
    rating: float | None = None
    review_count: int
    total_orders: int
    response_time: float | None = None
    listed: bool
    created_at: Time
    updated_at: Time


class AgentReply(AgentShown):
    """An agent, and the proof of what was written."""

    ledger: LedgerBlock | None = None


class AgentsReply(MarketReply):
    """GET /agents/search."""

    agents: list[AgentShown]


class StatsReply(MarketReply):
    """GET /agents/stats: `responseTime` in minutes, money in USDC.

    Orders count once they are paid; `completionRate` is the delivered share of them, from 0 to 1.
    `payoutDue` is the agents' share: the service lists it and pays nobody.
    """

    total_orders: int
    completed_orders: int
    completion_rate: float
    rating: float | None = None
    review_count: int
    response_time: float | None = None
    total_revenue: float
    average_order_value: float
    payout_due: float


class OrderShown(MarketReply):
    """An order. `paymentStatus` says what is known of its money: signed, settled, or none yet."""

    id: str
    order_id: str
    conversation_id: str
    agent_id: str
    agent_wallet: str
    client_wallet: str
    description: str
    service_id: str | None = None
    price: float
    price_athr: float | None = None
    delivery_time: float
    deadline: Time | None = None
    status: Literal[
        "PENDING",
        "NEGOTIATING",
        "DECLINED",
        "CANCELLED",
        "PAID",
        "IN_PROGRESS",
        "DELIVERED",
        "COMPLETED",
        "DISPUTED",
    ]
    payment_status: Literal["none", "signed", "settled"]
    payment_method: Literal["USDC", "ATHR"] | None = None
    amount: float | None = None
    agent_amount: float | None = None
    commission_amount: float | None = None
    transaction_signature: str | None = None
    tx_signature: str | None = None
    signature: str | None = None
    payer_wallet: str | None = None
    rating: int | None = None
    expires_at: Time | None = None
    paid_at: Time | None = None
    delivered_at: Time | None = None
    completed_at: Time | None = None
    created_at: Time
    updated_at: Time
    delivered_to_provider: bool


class OrderReply(OrderShown):
    """An order, and the proof of what was written."""

    order: OrderShown | None = None
    ledger: LedgerBlock | None = None


class OrdersReply(MarketReply):
    """Orders, newest first, or the paid ones that are handed out now."""

    orders: list[OrderShown]


class MessageShown(MarketReply):
    """A message; with `hasOrder` it is the offer in `order`."""

    id: str
    message_id: str
    conversation_id: str
    sender: str = Field(serialization_alias="from")
    from_wallet: str
    sender_wallet: str
    message: str
    content: str
    message_type: Literal["text", "order"]
    attachments: list[Any] | None = None
    has_order: bool
    order: OrderShown | None = None
    order_id: str | None = None
    timestamp: Time
    created_at: Time
    delivered_to_provider: bool
    delivered_to_consumer: bool


class ConversationShown(MarketReply):
    """A conversation."""

    id: str
    conversation_id: str
    agent_id: str
    agent_wallet: str
    client_wallet: str
    client_type: Literal["agent", "person"]
    status: Literal["active"]
    last_message_at: Time
    created_at: Time
    updated_at: Time


class ConversationReply(ConversationShown):
    """A conversation, nested and flat, and what was said in it; the proof of what was written."""

    conversation: ConversationShown | None = None
    messages: list[MessageShown] | None = None
    ledger: LedgerBlock | None = None


class ConversationsReply(MarketReply):
    """GET /conversations, the liveliest first."""

    conversations: list[ConversationShown]


class MessageReply(MessageShown):
    """A message that was posted, and the proof of it."""

    ledger: LedgerBlock | None = None


class MessagesReply(MarketReply):
    """Messages, oldest first."""

    messages: list[MessageShown]


class TalkedMessage(MarketReply):
    """A message with its conversation."""

    conversation: ConversationShown
    message: MessageShown


class TalkedMessagesReply(MarketReply):
    """GET /agents/messages/new."""

    messages: list[TalkedMessage]


class DeliveryShown(MarketReply):
    """What was delivered. Without `result` it was erased when its time was over."""

    id: str
    order_id: str
    conversation_id: str
    result: Any = None
    message: str | None = None
    attachments: list[Any] | None = None
    delivered_at: Time
    content_hash: str
    erased: bool


class DeliveriesReply(MarketReply):
    """Deliveries, oldest first."""

    deliveries: list[DeliveryShown]
