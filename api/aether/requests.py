"""The marketplace's requests, with every name that its sources give to a member.

Unknown members are ignored; prices are JSON numbers of USDC, delivery times are minutes unless a
name says otherwise. Rules: wire contract of the marketplace, sections 1 and 2.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AliasChoices,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)
from pydantic.alias_generators import to_camel

from api.aether.free_json import AnyJson, Attachments
from api.ivxp.models import Message, Usdc

MAX_PRICE: Final = Decimal(1_000_000_000)
MAX_MINUTES: Final = 2**31 // 60 - 1
MAX_PAGE: Final = 500
_MICRO: Final = Decimal("0.000001")

Words = Annotated[str, StringConstraints(max_length=16_384)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=32_768)]
Line = Annotated[str, StringConstraints(max_length=2_048)]
AgentName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
WalletText = Annotated[str, StringConstraints(min_length=1, max_length=64)]
IdText = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Price = Annotated[Usdc, Field(ge=0, le=MAX_PRICE)]
PaidPrice = Annotated[Usdc, Field(gt=0, le=MAX_PRICE)]
Minutes = Annotated[Usdc, Field(ge=0, le=MAX_MINUTES)]
Words50 = Annotated[list[Line], Field(max_length=50)]


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


Method = Annotated[Literal["USDC", "ATHR"], BeforeValidator(_upper)]


def micros(price: Decimal) -> int:
    """Return micro-USDC of a price, to the nearest one: programs reckon prices in binary."""
    return int(price.quantize(_MICRO, ROUND_HALF_EVEN) * 1_000_000)


def seconds(minutes: Decimal) -> int:
    """Return whole seconds."""
    return int(minutes * 60)


class MarketMessage(Message):
    """A member is called as the SDK calls it, or by any of its other names."""

    model_config = ConfigDict(alias_generator=to_camel)


def called(*names: str) -> Any:  # noqa: ANN401 - as pydantic's own
    """Return a field with these names; the first one is the SDK's."""
    return Field(validation_alias=AliasChoices(*names))


def perhaps(*names: str) -> Any:  # noqa: ANN401 - as pydantic's own
    """Return a field with these names that may be left out."""
    return Field(default=None, validation_alias=AliasChoices(*names))


class ServiceOffer(MarketMessage):
    """A service as PUT /agents/services and a nested registration bring it."""

    title: Line | None = perhaps("title", "name")
    description: Words | None = None
    price: Price | None = None
    price_athr: Price | None = None
    delivery_time: Minutes | None = None
    requirements: Words | Words50 | None = None
    examples: Words50 | None = None
    image_url: Line | None = None
    category: Line | None = None
    id: Line | None = None


Services = Annotated[list[ServiceOffer], Field(max_length=100)]


class Profile(MarketMessage):
    """What an agent says of itself."""

    name: AgentName | None = None
    tagline: Line | None = None
    description: Words | None = None
    categories: Words50 | None = None
    base_price: Price | None = None
    avatar: Line | None = None
    skills: Words50 | None = None
    languages: Words50 | None = None


class RegisterRequest(Profile):
    """POST /agents/register: the profile flat, or nested with its services beside it."""

    profile: Profile | None = None
    services: Services | None = None
    endpoint: Line | None = None
    owner_wallet: WalletText = called("ownerWallet", "walletAddress", "wallet")
    stake_amount: Annotated[Usdc, Field(ge=0, le=10**15)] | None = None


class ServiceRequest(MarketMessage):
    """POST /agents/services: one service, its delivery time in seconds.

    The SDK names no agent; see docs/marketplace.md for which one is meant.
    """

    owner_wallet: WalletText = called("ownerWallet", "walletAddress", "wallet")
    agent_id: IdText | None = None
    name: Line = called("name", "title")
    description: Words | None = None
    price: Price | None = None
    price_athr: Price | None = None
    delivery_time: Annotated[Usdc, Field(ge=0, le=2**31 - 1)] | None = None
    requirements: Words | None = None
    image_url: Line | None = None


class ProfileRequest(MarketMessage):
    """PUT /agents/profile and PATCH /agents/{agent_id}: the members that are to change."""

    wallet: WalletText = called("wallet", "ownerWallet", "walletAddress")
    agent_id: IdText | None = None
    updates: Profile


class ServicesRequest(MarketMessage):
    """PUT /agents/services: all services anew, delivery times in minutes."""

    wallet: WalletText = called("wallet", "ownerWallet", "walletAddress")
    agent_id: IdText | None = None
    services: Services


class WalletRequest(MarketMessage):
    """A request of which only the wallet matters."""

    wallet: WalletText | None = perhaps(
        "wallet", "ownerWallet", "walletAddress", "clientWallet", "agentWallet"
    )


class StartRequest(MarketMessage):
    """POST /conversations."""

    agent_id: IdText
    client_wallet: WalletText = called("clientWallet", "wallet", "from", "senderWallet")
    client_type: Literal["agent", "person"] = "agent"
    message: Text | None = perhaps("initialMessage", "message", "content")
    attachments: Attachments | None = None


class MessageRequest(MarketMessage):
    """POST /conversations/{conversation_id}/messages."""

    sender: WalletText = called("from", "fromWallet", "senderWallet", "wallet")
    message: Text = called("message", "content")
    attachments: Attachments | None = None


class OfferRequest(MarketMessage):
    """POST /orders; `deliveryTime` in minutes, `deadline` an ISO 8601 time."""

    conversation_id: IdText
    agent_wallet: WalletText = called("agentWallet", "wallet", "ownerWallet")
    description: Text
    price: PaidPrice
    price_athr: Price | None = None
    delivery_time: Minutes
    service_id: Line | None = None
    deadline: Annotated[str, StringConstraints(max_length=64)] | None = None


class AcceptRequest(MarketMessage):
    """POST /orders/{order_id}/accept. The header is base64 of JSON with the signed transfer."""

    client_wallet: WalletText = called("clientWallet", "wallet")
    payment_method: Method = "USDC"
    payment_header: Annotated[str, StringConstraints(min_length=1, max_length=16_384)]


class DeclineRequest(MarketMessage):
    """POST /orders/{order_id}/decline."""

    client_wallet: WalletText = called("clientWallet", "wallet")
    reason: Words | None = None


class CancelRequest(MarketMessage):
    """POST /orders/{order_id}/cancel, by either side of an unpaid order."""

    wallet: WalletText = called("wallet", "agentWallet", "clientWallet")
    reason: Words | None = None


class CounterRequest(MarketMessage):
    """POST /orders/{order_id}/counter-offer."""

    client_wallet: WalletText = called("clientWallet", "wallet")
    price: PaidPrice | None = None
    delivery_time: Minutes | None = None
    message: Text = called("message", "content")


class DeliverRequest(MarketMessage):
    """POST /orders/{order_id}/deliver. `result` is any JSON."""

    agent_wallet: WalletText = called("agentWallet", "wallet", "ownerWallet")
    result: AnyJson
    message: Words | None = None
    attachments: Attachments | None = None


class ReviewRequest(MarketMessage):
    """POST /orders/{order_id}/review."""

    client_wallet: WalletText = called("clientWallet", "wallet")
    rating: Annotated[int, Field(ge=1, le=5)]
    comment: Words | None = None


class AgentChanges(Profile):
    """What may change of an agent; `listed` says whether a search finds it from now on."""

    listed: bool | None = None


class ProfilePatch(AgentChanges, WalletRequest):
    """PATCH /agents/{agent_id}: the members that are to change, flat or in `updates`."""

    updates: AgentChanges | None = None
