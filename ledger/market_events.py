"""The events of the marketplace outside orders: agents, and conversations with their messages.

Wallets are as the marketplace knew them; `proven` says how it knew who asked. A wallet that was
only named (`open`) proves nothing about its owner. Ids without the ending `_id` are plain names.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Protocol

from pydantic import StringConstraints

from ledger.event import Actor, Event
from ledger.values import ContentId
from ledger.wallets import Wallet

Proven = Literal["token", "signature", "open"]
Uuid = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"),
]
Side = Literal["agent", "client"]


class Sides(Protocol):
    """Who talks to whom: the event that began a conversation, or what a view holds of it."""

    @property
    def agent(self) -> str:
        """The agent's id."""

    @property
    def agent_wallet(self) -> str:
        """The wallet that owns the agent."""

    @property
    def client_wallet(self) -> str:
        """The wallet that began."""

    @property
    def client_type(self) -> str:
        """`agent` or `person`, as the client says."""


class AgentRegistered(Event):
    """A wallet offers its services under a name. Its words are its own, nobody checked them."""

    kind: ClassVar[str] = "agent_registered"
    actor: ClassVar[Actor] = "client"
    owner: Wallet
    profile_id: ContentId
    services_id: ContentId | None = None
    endpoint_id: ContentId | None = None
    proven: Proven


class AgentUpdated(Event):
    """The owner of an agent changed its profile or its services: the named ones are new.

    `listed` says whether it is found by a search from now on.
    """

    kind: ClassVar[str] = "agent_updated"
    actor: ClassVar[Actor] = "client"
    profile_id: ContentId | None = None
    services_id: ContentId | None = None
    listed: bool | None = None
    proven: Proven


class ConversationStarted(Event):
    """A client began to talk to an agent. Both wallets stay what they are for its whole length."""

    kind: ClassVar[str] = "conversation_started"
    actor: ClassVar[Actor] = "client"
    agent: Uuid
    agent_wallet: Wallet
    client_wallet: Wallet
    client_type: Literal["agent", "person"]
    proven: Proven


class MessagePosted(Event):
    """One side wrote to the other. Proves what the marketplace was given, and when."""

    kind: ClassVar[str] = "message_posted"
    actor: ClassVar[Actor] = "client"
    message: Uuid
    sender: Side
    text_id: ContentId
    attachments_id: ContentId | None = None
    proven: Proven


AgentEvent = AgentRegistered | AgentUpdated
ConversationEvent = ConversationStarted | MessagePosted
