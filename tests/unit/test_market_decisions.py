"""What agents and conversations take, who may do it, and what their events make of them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from ledger.entry import SignedEvent
from ledger.errors import Conflict, InvalidInput, LedgerError, NotFound
from ledger.event import Event
from ledger.market import (
    Agent,
    Conversation,
    EraseWords,
    MarketCommand,
    MarketState,
    PostMessage,
    RegisterAgent,
    Said,
    StartConversation,
    UpdateAgent,
    agent_id,
    decide_market,
    evolve_agent,
    evolve_conversation,
    side_in,
)
from ledger.market_events import AgentRegistered, AgentUpdated, ConversationStarted, MessagePosted
from ledger.order_events import ContentErased
from ledger.values import UnixMs, agent_stream, conversation_stream, stream_key
from tests.support import ledger_files as lf
from tests.support import market_stories as ms
from tests.unit import builders as b

OWNER: Final = b.AGENT_KEY.address
CLIENT: Final = b.BUYER.address
REGISTERED = AgentRegistered(
    owner=OWNER,
    profile_id=b.content_id("profile"),
    services_id=b.content_id("services"),
    proven="token",
)
STARTED = ConversationStarted(
    agent=b.AGENT,
    agent_wallet=OWNER,
    client_wallet=CLIENT,
    client_type="agent",
    proven="token",
)
SAID = Said(b.MESSAGE, b.content_id("words"), None, {"text": b.digest_of("words")})
GONE = ContentErased(content_ids=(b.content_id("profile"),), reason="request")
POSTED = MessagePosted(
    message=b.MESSAGE, sender="client", text_id=b.content_id("words"), proven="token"
)


def placed(stream: str, seq: int, event: Event) -> SignedEvent:
    return SignedEvent(stream, seq, b.NOW, event, {}, b.PROVIDER.address, b"", bytes(32))


def agent(*events: Event) -> Agent:
    state: Agent | None = None
    for seq, event in enumerate((REGISTERED, *events), start=1):
        state = evolve_agent(state, placed(agent_stream(b.AGENT), seq, event))
    assert state is not None
    return state


def talk(*events: Event) -> Conversation:
    state: Conversation | None = None
    for seq, event in enumerate((STARTED, *events), start=1):
        state = evolve_conversation(state, placed(conversation_stream(b.TALK), seq, event))
    assert state is not None
    return state


def update(wallet: str = OWNER, *, after: int = 1) -> UpdateAgent:
    updated = AgentUpdated(profile_id=b.content_id("newer"), proven="token")
    return UpdateAgent(wallet, updated, {"profile": b.digest_of("newer")}, after, b.NOW)


def post(wallet: str) -> PostMessage:
    return PostMessage(wallet, "signature", SAID, b.NOW)


def erase(*names: str) -> EraseWords:
    return EraseWords(tuple(map(b.content_id, names)), "request", b.NOW)


REGISTER = RegisterAgent(REGISTERED, {}, b.NOW)
START = StartConversation(STARTED, SAID, b.NOW)

CASES: Final[
    tuple[tuple[MarketState | None, MarketCommand, list[str] | type[LedgerError]], ...]
] = (
    (None, REGISTER, ["agent_registered"]),
    (agent(), REGISTER, Conflict),
    (None, update(), NotFound),
    (talk(), update(), NotFound),
    (agent(), update(), ["agent_updated"]),
    (agent(), update(b.STRANGER.address), NotFound),
    (agent(), update(after=2), Conflict),
    (agent(GONE), update(), Conflict),
    (agent(GONE), update(after=2), ["agent_updated"]),
    (None, START, ["conversation_started", "message_posted"]),
    (None, replace(START, first=None), ["conversation_started"]),
    (None, post(CLIENT), NotFound),
    (agent(), post(CLIENT), NotFound),
    (talk(), post(CLIENT), ["message_posted"]),
    (talk(), post(OWNER), ["message_posted"]),
    (talk(), post(b.STRANGER.address), NotFound),
    (talk(), post(CLIENT.lower()), NotFound),
    (None, erase("profile"), NotFound),
    (agent(), erase("profile"), ["content_erased"]),
    (agent(GONE), erase("profile"), []),
    (agent(GONE), erase("profile", "services"), ["content_erased"]),
    (talk(POSTED), erase("words"), ["content_erased"]),
)
"""A state, a command, and what it leads to."""


@pytest.mark.parametrize(("state", "command", "expected"), CASES)
def test_each_command_leads_to_its_events_or_its_refusal(
    state: MarketState | None,
    command: MarketCommand,
    expected: list[str] | type[LedgerError],
) -> None:
    if isinstance(expected, list):
        assert b.kinds_of(decide_market(state, command)) == expected
    else:
        with pytest.raises(expected):
            decide_market(state, command)


def test_nobody_talks_to_its_own_agent() -> None:
    alone = STARTED.model_copy(update={"client_wallet": OWNER})

    with pytest.raises(InvalidInput, match="its own agent"):
        decide_market(None, StartConversation(alone, SAID, b.NOW))


@pytest.mark.parametrize(
    ("wallet", "side"), [(CLIENT, "client"), (OWNER, "agent"), (b.STRANGER.address, None)]
)
def test_the_sides_of_a_conversation_are_its_two_wallets(wallet: str, side: str | None) -> None:
    assert side_in(STARTED, wallet) == side


def test_a_message_says_whose_it_is_and_how_that_was_known() -> None:
    for wallet, side in ((CLIENT, "client"), (OWNER, "agent")):
        (event,) = b.events_of(decide_market(talk(), post(wallet)))
        assert isinstance(event, MessagePosted)
        assert (event.sender, event.proven, event.text_id) == (side, "signature", SAID.text_id)
    first = b.events_of(decide_market(None, START))[1]
    assert isinstance(first, MessagePosted)
    assert (first.sender, first.proven) == ("client", STARTED.proven)


def test_only_what_was_not_erased_before_is_erased() -> None:
    (event,) = b.events_of(decide_market(agent(GONE), erase("profile", "services")))

    assert event.body()["content_ids"] == [b.content_id("services")]


def test_an_agent_is_what_its_newest_events_say() -> None:
    newer = AgentUpdated(profile_id=b.content_id("newer"), listed=False, proven="open")
    services = AgentUpdated(services_id=b.content_id("more"), proven="open")

    state = agent(newer, services, GONE)

    assert (state.version, state.owner, state.listed) == (4, OWNER, False)
    assert (state.profile_id, state.services_id, state.endpoint_id) == (
        b.content_id("newer"),
        b.content_id("more"),
        None,
    )
    assert state.contents == {b.content_id(n) for n in ("profile", "services", "newer", "more")}
    assert state.erased == {b.content_id("profile")}


def test_a_conversation_is_its_beginning_and_how_much_was_said() -> None:
    state = talk(POSTED, POSTED, GONE)

    assert (state.version, state.started, state.erased) == (
        4,
        STARTED,
        frozenset({b.content_id("profile")}),
    )


@pytest.mark.parametrize("event", [*b.ORDER_SAMPLES, *b.LOG_SAMPLES], ids=lambda e: e.kind)
def test_other_events_have_no_place_in_the_marketplace(event: Event) -> None:
    if isinstance(event, ContentErased):
        return
    for state in (None, agent()):
        with pytest.raises(TypeError, match="no place here"):
            evolve_agent(state, placed(agent_stream(b.AGENT), 2, event))
    for started in (None, talk()):
        with pytest.raises(TypeError, match="no place here"):
            evolve_conversation(started, placed(conversation_stream(b.TALK), 2, event))


def test_an_agent_and_a_conversation_begin_once() -> None:
    for event in (AgentUpdated(proven="open"), GONE, STARTED):
        with pytest.raises(TypeError):
            evolve_agent(None, placed(agent_stream(b.AGENT), 1, event))
    for event in (POSTED, GONE, REGISTERED):
        with pytest.raises(TypeError):
            evolve_conversation(None, placed(conversation_stream(b.TALK), 1, event))
    with pytest.raises(TypeError):
        agent(REGISTERED)
    with pytest.raises(TypeError):
        talk(STARTED)


def test_a_wallet_has_one_agent_of_a_name_in_each_log() -> None:
    ours = agent_id("ledger.example/one", OWNER, "Reviewer")
    others = [
        agent_id("ledger.example/two", OWNER, "Reviewer"),
        agent_id("ledger.example/one", CLIENT, "Reviewer"),
        agent_id("ledger.example/one", OWNER, "reviewer"),
    ]

    assert ours == agent_id("ledger.example/one", OWNER, "Reviewer")
    assert len({ours, *others}) == 4
    assert len({stream_key(agent_stream(ours)), stream_key(conversation_stream(ours))}) == 2


def test_of_two_registrations_at_once_one_is_refused(tmp_path: Path) -> None:
    ledger = lf.LedgerFiles(tmp_path).open()
    ledger.start()
    stream = agent_stream(b.AGENT)
    registered = REGISTERED.model_copy(update={"services_id": None})

    async def race() -> list[object]:
        rows = [ms.salted(stream, "profile", f"profile {n}") for n in range(4)]
        acts = [
            ledger.act_on_market(
                stream,
                RegisterAgent(
                    registered.model_copy(update={"profile_id": row.content_id}),
                    ms.commits(row),
                    UnixMs(lf.START),
                ),
                (row,),
            )
            for row in rows
        ]
        return list(await asyncio.gather(*acts, return_exceptions=True))

    try:
        answers = asyncio.run(race())
        state = asyncio.run(ledger.agent(b.AGENT))
        kept = ledger.store.content(state.profile_id) if state is not None else None
    finally:
        ledger.close()

    refused = [each for each in answers if isinstance(each, BaseException)]
    assert [type(each) for each in refused] == [Conflict] * 3
    assert state is not None
    assert state.version == 1
    assert kept is not None
