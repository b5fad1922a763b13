"""Agents and conversations: their state, and what may be recorded of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, assert_never
from uuid import uuid5

from ledger.decision import Decision
from ledger.entry import Draft, SignedEvent
from ledger.errors import Conflict, InvalidInput, NotFound
from ledger.market_events import (
    AgentRegistered,
    AgentUpdated,
    ConversationStarted,
    MessagePosted,
    Proven,
    Side,
    Sides,
)
from ledger.order_events import ContentErased
from ledger.values import STREAM_NAMESPACE, UnixMs


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent as its newest events have it; `contents` are all that it ever referred to."""

    version: int
    owner: str
    registered_at: UnixMs
    updated_at: UnixMs
    profile_id: str
    services_id: str | None
    endpoint_id: str | None
    contents: frozenset[str]
    listed: bool = True
    erased: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation: who talks, and how much was said."""

    version: int
    started: ConversationStarted
    started_at: UnixMs
    last_at: UnixMs
    erased: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class RegisterAgent:
    """Register an agent under the id that its owner and its name make."""

    registered: AgentRegistered
    commit: Mapping[str, str]
    now: UnixMs


@dataclass(frozen=True, slots=True)
class UpdateAgent:
    """Change an agent that has `after` events: what was read of it is what is changed."""

    wallet: str
    updated: AgentUpdated
    commit: Mapping[str, str]
    after: int
    now: UnixMs


@dataclass(frozen=True, slots=True)
class Said:
    """A message: its id, its content, and the commitments to it."""

    message: str
    text_id: str
    attachments_id: str | None
    commit: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StartConversation:
    """Begin to talk to an agent, mostly with a first message."""

    started: ConversationStarted
    first: Said | None
    now: UnixMs


@dataclass(frozen=True, slots=True)
class PostMessage:
    """Write to the other side."""

    wallet: str
    proven: Proven
    said: Said
    now: UnixMs


@dataclass(frozen=True, slots=True)
class EraseWords:
    """Say that content of an agent or a conversation was erased."""

    content_ids: tuple[str, ...]
    reason: Literal["retention", "request", "operator"]
    now: UnixMs


MarketCommand = RegisterAgent | UpdateAgent | StartConversation | PostMessage | EraseWords
MarketState = Agent | Conversation


def agent_id(origin: str, wallet: str, name: str) -> str:
    """Return the id of a wallet's agent of this name: registering it again finds it."""
    return str(uuid5(STREAM_NAMESPACE, f"agent\n{origin}\n{wallet}\n{name}"))


def evolve_agent(agent: Agent | None, signed: SignedEvent) -> Agent:
    """Return the agent after one more of its events."""
    event = signed.event
    match event:
        case AgentRegistered() if agent is None:
            ids = (event.profile_id, event.services_id, event.endpoint_id)
            return Agent(
                signed.seq, event.owner, signed.at, signed.at, *ids, frozenset(i for i in ids if i)
            )
        case AgentUpdated() if agent is not None:
            named = {i for i in (event.profile_id, event.services_id) if i}
            return replace(
                agent,
                version=signed.seq,
                updated_at=signed.at,
                profile_id=event.profile_id or agent.profile_id,
                services_id=event.services_id or agent.services_id,
                listed=agent.listed if event.listed is None else event.listed,
                contents=agent.contents | named,
            )
        case ContentErased() if agent is not None:
            gone = agent.erased | set(event.content_ids)
            return replace(agent, version=signed.seq, erased=gone)
        case _:
            msg = f"{event.kind!r} has no place here in the stream of an agent"
            raise TypeError(msg)


def evolve_conversation(talk: Conversation | None, signed: SignedEvent) -> Conversation:
    """Return the conversation after one more of its events."""
    event = signed.event
    match event:
        case ConversationStarted() if talk is None:
            return Conversation(signed.seq, event, signed.at, signed.at)
        case MessagePosted() if talk is not None:
            return replace(talk, version=signed.seq, last_at=signed.at)
        case ContentErased() if talk is not None:
            return replace(talk, version=signed.seq, erased=talk.erased | set(event.content_ids))
        case _:
            msg = f"{event.kind!r} has no place here in the stream of a conversation"
            raise TypeError(msg)


def decide_market(state: MarketState | None, command: MarketCommand) -> Decision:
    """Return the events that the command leads to, or raise what it is refused with."""
    match command:
        case RegisterAgent():
            if state is not None:
                msg = "this wallet is already registered with an agent of this name"
                raise Conflict(msg, code="DUPLICATE_REGISTRATION")
            return Decision((Draft(command.registered, command.commit),))
        case UpdateAgent():
            return _update(state, command)
        case StartConversation():
            return _start(command)
        case PostMessage():
            return _post(state, command)
        case EraseWords():
            return _erase(state, command)
        case _:
            assert_never(command)


def side_in(talk: Sides, wallet: str) -> Side | None:
    """Return on which side of a conversation a wallet is, or None of a stranger."""
    if wallet == talk.client_wallet:
        return "client"
    return "agent" if wallet == talk.agent_wallet else None


def _update(state: MarketState | None, command: UpdateAgent) -> Decision:
    if not isinstance(state, Agent) or state.owner != command.wallet:
        msg = "this wallet has no such agent"
        raise NotFound(msg, code="AGENT_NOT_FOUND")
    if state.version != command.after:
        msg = "the agent was changed meanwhile"
        raise Conflict(msg, code="AGENT_CHANGED")
    return Decision((Draft(command.updated, command.commit),))


def _start(command: StartConversation) -> Decision:
    started, first = command.started, command.first
    if started.agent_wallet == started.client_wallet:
        msg = "a wallet does not talk to its own agent"
        raise InvalidInput(msg, details={"field": "clientWallet"})
    drafts = [Draft(started)]
    if first is not None:
        drafts.append(_message(first, "client", started.proven))
    return Decision(tuple(drafts))


def _post(state: MarketState | None, command: PostMessage) -> Decision:
    side = side_in(state.started, command.wallet) if isinstance(state, Conversation) else None
    if side is None:
        msg = "this wallet has no such conversation"
        raise NotFound(msg, code="CONVERSATION_NOT_FOUND")
    return Decision((_message(command.said, side, command.proven),))


def _message(said: Said, sender: Side, proven: Proven) -> Draft:
    posted = MessagePosted(
        message=said.message,
        sender=sender,
        text_id=said.text_id,
        attachments_id=said.attachments_id,
        proven=proven,
    )
    return Draft(posted, said.commit)


def _erase(state: MarketState | None, command: EraseWords) -> Decision:
    if state is None:
        msg = "there is no such stream"
        raise NotFound(msg)
    new = tuple(c for c in command.content_ids if c not in state.erased)
    if not new:
        return Decision()
    return Decision((Draft(ContentErased(content_ids=new, reason=command.reason)),))
