"""Agents: registration, profile, services, search and figures."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

from aiohttp import web

from api.aether.long_answers import long_answer
from api.aether.profiles import few, minutes, minutes_of, number, pruned, service_json, told
from api.aether.proof import Proof, acting_wallet
from api.aether.queries import AgentQuery, NameQuery, SearchQuery
from api.aether.requests import (
    AgentChanges,
    Profile,
    ProfileRequest,
    RegisterRequest,
    ServiceRequest,
    ServicesRequest,
    WalletRequest,
)
from api.aether.searching import SEARCHING, found_agents
from api.aether.shop import json_of, kept, known_agent
from api.aether.shown import Json, agent_json
from api.answers import json_response, proven_response
from api.body import parse_json, read_body, read_model, validated
from api.keys import LEDGER, MARKET
from api.log.words import NO_STORE
from api.query import read_query
from api.sync import settle
from ledger.errors import Conflict, InvalidInput, NotFound
from ledger.market import Agent, RegisterAgent, UpdateAgent, agent_id
from ledger.market_events import AgentRegistered, AgentUpdated
from ledger.receipt import Receipt
from ledger.values import agent_stream, usdc_number
from ledger.wallets import parse_wallet
from projections.market_reader import Record

MAX_ATTEMPTS: Final = 8
MAX_REMEMBERED: Final = 10_000


class Named:
    """Which of its agents a wallet named last: the SDK posts services without saying whose.

    In memory: after a restart it is the agent that was registered last.
    """

    def __init__(self) -> None:
        self._agents: OrderedDict[str, str] = OrderedDict()

    def name(self, wallet: str, agent: str) -> None:
        """Remember it."""
        self._agents[wallet] = agent
        self._agents.move_to_end(wallet)
        if len(self._agents) > MAX_REMEMBERED:
            self._agents.popitem(last=False)

    def of(self, wallet: str) -> str | None:
        """Return it, if it is remembered."""
        return self._agents.get(wallet)


class Changed(NamedTuple):
    """What becomes new of an agent; None leaves it as it is."""

    profile: Json | None = None
    services: list[Json] | None = None
    listed: bool | None = None


Change = Callable[[Json, list[Json]], Changed]
"""Makes it of the profile and the services that an agent has."""

NAMED: Final = web.AppKey("named", Named)


async def post_register(request: web.Request) -> web.Response:
    """Register an agent. The same wallet and name again are 409 `DUPLICATE_REGISTRATION`."""
    said = await read_model(request, RegisterRequest)
    proof = await acting_wallet(request, said.owner_wallet)
    profile = said.profile or said
    if profile.name is None:
        raise InvalidInput("name: an agent has a name", details={"field": "name"})
    ledger = request.app[LEDGER]
    agent = agent_id(ledger.origin, proof.wallet, profile.name)
    words = told(profile)
    if said.stake_amount is not None:
        words["stakeAmount"] = number(said.stake_amount)
    services = few([service_json(each) for each in said.services or ()]) or None
    ids, commit, rows = kept(
        agent_stream(agent), profile=words, services=services, endpoint=said.endpoint
    )
    registered = AgentRegistered(owner=proof.wallet, proven=proof.how, **ids)
    command = RegisterAgent(registered, commit, ledger.clock())
    try:
        receipt = await ledger.act_on_market(agent_stream(agent), command, tuple(rows))
    finally:
        # Also of a refused repeat: the services that follow are for the agent that it names.
        if await ledger.agent(agent) is not None:
            request.app[NAMED].name(proof.wallet, agent)
    return await _answer(request, agent, receipt)


async def get_by_name(request: web.Request) -> web.Response:
    """Find an agent by its owner and its name."""
    asked = read_query(request, NameQuery)
    proof = await acting_wallet(request, asked.wallet)
    ledger = request.app[LEDGER]
    agent = agent_id(ledger.origin, proof.wallet, asked.name)
    state = await known_agent(ledger, agent)
    request.app[NAMED].name(proof.wallet, agent)
    return _shown(request, agent, state)


async def get_agent(request: web.Request) -> web.Response:
    """Show an agent."""
    agent = request.match_info["agent_id"]
    return _shown(request, agent, await known_agent(request.app[LEDGER], agent))


async def post_service(request: web.Request) -> web.Response:
    """Add a service, or replace the one of that name."""
    said = await read_model(request, ServiceRequest)
    proof = await acting_wallet(request, said.owner_wallet)
    service = pruned(
        {
            "name": said.name,
            "title": said.name,
            "description": said.description,
            "price": number(said.price),
            "priceAthr": number(said.price_athr),
            "deliveryTime": minutes(said.delivery_time),
            "requirements": said.requirements,
            "imageUrl": said.image_url,
        }
    )

    def change(_profile: Json, services: list[Json]) -> Changed:
        others = [each for each in services if each.get("name") != said.name]
        return Changed(services=few([*others, service]))

    return await _change(request, proof, said.agent_id, change)


async def put_services(request: web.Request) -> web.Response:
    """Replace all services."""
    said = await read_model(request, ServicesRequest)
    proof = await acting_wallet(request, said.wallet)
    services = few([service_json(each) for each in said.services])
    return await _change(request, proof, said.agent_id, lambda _p, _s: Changed(services=services))


async def put_profile(request: web.Request) -> web.Response:
    """Change the members of the profile that are named."""
    said = await read_model(request, ProfileRequest)
    proof = await acting_wallet(request, said.wallet)
    return await _change(request, proof, said.agent_id, _merging(said.updates))


async def patch_agent(request: web.Request) -> web.Response:
    """Change the agent in the path; the members may stand flat or in `updates`."""
    body = parse_json(await read_body(request))
    who, updates = validated(body, WalletRequest), body.get("updates", body)
    changes = validated(updates, AgentChanges)
    proof = await acting_wallet(request, who.wallet)
    named, change = request.match_info["agent_id"], _merging(changes, listed=changes.listed)
    return await _change(request, proof, named, change)


async def delete_agent(request: web.Request) -> web.Response:
    """Take an agent out of the search; what was agreed on with it goes on."""
    body = await read_body(request)
    who = validated(parse_json(body) if body else {}, WalletRequest)
    wallet = who.wallet or read_query(request, AgentQuery).wallet
    proof = await acting_wallet(request, wallet)
    named = request.match_info["agent_id"]
    return await _change(request, proof, named, lambda _p, _s: Changed(listed=False))


async def get_search(request: web.Request) -> web.StreamResponse:
    """Find agents; those without any review are left out where a rating is asked for."""
    asked, app = read_query(request, SearchQuery), request.app
    async with app[SEARCHING]:
        body = await asyncio.to_thread(found_agents, app[LEDGER], app[MARKET].path, asked)
    return await long_answer(request, body)


async def get_stats(request: web.Request) -> web.Response:
    """Show the owner what came of the orders of its agents, or of one of them."""
    asked = read_query(request, AgentQuery)
    named = request.match_info.get("agent_id", asked.agent_id)
    proof = await acting_wallet(request, asked.wallet)
    market = request.app[MARKET]
    if named is None:
        which = {"wallet": proof.wallet}
    else:
        state = await known_agent(request.app[LEDGER], named)
        _require_owner(state, proof)
        which = {"agent": named}
    return json_response(_stats(market.record_of(**which)), headers=NO_STORE)


def _stats(record: Record) -> Json:
    orders = record.orders
    body: Json = {
        "totalOrders": orders,
        "completedOrders": record.delivered,
        "completionRate": record.delivered / orders if orders else 0,
        "reviewCount": record.reviews,
        "totalRevenue": usdc_number(record.amount_micros),
        "averageOrderValue": usdc_number(record.amount_micros // orders) if orders else 0,
        "payoutDue": usdc_number(record.payout_micros),
    }
    if record.rating is not None:
        body["rating"] = round(record.rating, 2)
    if record.answered_after_ms is not None:
        body["responseTime"] = minutes_of(record.answered_after_ms)
    return body


async def _change(
    request: web.Request, proof: Proof, named: str | None, change: Change
) -> web.Response:
    """Read an agent, change it, and record that; read again if another change came between."""
    ledger = request.app[LEDGER]
    agent = named or _meant(request, proof.wallet)
    for _ in range(MAX_ATTEMPTS):
        state = await known_agent(ledger, agent)
        _require_owner(state, proof)
        new = change(
            json_of(ledger, state.profile_id) or {}, json_of(ledger, state.services_id) or []
        )
        ids, commit, rows = kept(agent_stream(agent), profile=new.profile, services=new.services)
        updated = AgentUpdated(listed=new.listed, proven=proof.how, **ids)
        command = UpdateAgent(proof.wallet, updated, commit, state.version, ledger.clock())
        try:
            receipt = await ledger.act_on_market(agent_stream(agent), command, tuple(rows))
        except Conflict as error:
            if error.code != "AGENT_CHANGED":
                raise
            continue
        return await _answer(request, agent, receipt)
    raise Conflict("others keep changing this agent; ask again", code="AGENT_CHANGED")


def _merging(changes: Profile, *, listed: bool | None = None) -> Change:
    words = told(changes)

    def change(profile: Json, _services: list[Json]) -> Changed:
        # What an agent says of itself is not stored anew only to list it.
        if listed is not None and not words:
            return Changed(listed=listed)
        return Changed(profile={**profile, **words}, listed=listed)

    return change


def _meant(request: web.Request, wallet: str) -> str:
    """Return the agent that a wallet means if it names none."""
    agent = request.app[NAMED].of(wallet)
    if agent is not None:
        return agent
    rows = request.app[MARKET].agents_of(parse_wallet(wallet))
    if not rows:
        raise NotFound("this wallet has no agent", code="AGENT_NOT_FOUND")
    return rows[-1].agent


def _require_owner(state: Agent, proof: Proof) -> None:
    if state.owner != proof.wallet:
        raise NotFound("this wallet has no such agent", code="AGENT_NOT_FOUND")


async def _answer(request: web.Request, agent: str, receipt: Receipt) -> web.Response:
    await settle(request.app, receipt)
    state = receipt.stream.state
    assert isinstance(state, Agent)  # noqa: S101 - the stream is an agent's
    return proven_response(request, _body(request, agent, state), receipt)


def _shown(request: web.Request, agent: str, state: Agent) -> web.Response:
    return json_response(_body(request, agent, state), headers=NO_STORE)


def _body(request: web.Request, agent: str, state: Agent) -> Json:
    record = request.app[MARKET].record_of(agent=agent)
    return agent_json(request.app[LEDGER], agent, state, record)
