"""Cursors over HTTP, step by step: three readers, a clock, an owner, and the feed that grows."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import uvloop
from eth_account import Account
from eth_utils.crypto import keccak
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from api.keys import TOKENS
from ledger.values import UnixMs, iso_of, parse_iso
from tests.contract.cursor_kit import write_catalog
from tests.contract.kit import Service, serving
from tests.model.cursor_shadow import Refusal, ShadowCursor, Terms
from tests.model.wire import Answer, Ask, Wire, get, post, wired

START_MS = 1_800_000_000_000
HOLDERS = ("a", "b", "c")
LEASE_MS = 1000


@dataclass
class SetClock:
    """A clock that stands still until it is moved."""

    now: int = START_MS

    def __call__(self) -> UnixMs:
        return UnixMs(self.now)


class CursorWorld:
    """One service for many examples; each has a wallet and a cursor of its own."""

    def __init__(self, folder: Path) -> None:
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._stack = AsyncExitStack()
        self.clock = SetClock()
        self.examples = 0
        self.service: Service
        self.wire: Wire
        self._runner.run(self._open(folder))

    def ask(self, *what: Ask) -> list[Answer]:
        return self._runner.run(self.wire.ask_all(what))

    def close(self) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()

    async def _open(self, folder: Path) -> None:
        self.service = await self._stack.enter_async_context(
            serving(folder, clock=self.clock, catalog=write_catalog(folder), watched=False)
        )
        self.wire = await self._stack.enter_async_context(wired(self.service.url))


class CursorMachine(RuleBasedStateMachine):
    """Every answer is foretold by the shadow and compared with it."""

    world: ClassVar[CursorWorld]
    counts: ClassVar[Counter[str]]
    modes: ClassVar[tuple[str, ...]] = ("ack", "ack", "ack", "auto")

    @initialize(data=st.data())
    def open(self, data: st.DataObject) -> None:
        world = self.world
        world.examples += 1
        self.counts["examples"] += 1
        account = Account.from_key(keccak(text=f"cursor {world.examples}"))
        self.wallet = account.address
        self.bearer, _ = world.service.app[TOKENS].issue(self.wallet.lower(), world.clock())
        self.path = f"/v1/feeds/{self.wallet}/cursors/one"
        self.tokens = dict.fromkeys(HOLDERS, 0)
        terms = Terms(
            mode=data.draw(st.sampled_from(self.modes)),
            lease_ms=LEASE_MS,
            max_batch=data.draw(st.sampled_from([3, 100])),
            max_attempts=data.draw(st.sampled_from([2, 3, 10])),
            on_poison=data.draw(st.sampled_from(["park", "block"])),
            backoff_ms=data.draw(st.sampled_from([0, 300])),
            backoff_max_ms=1000,
        )
        self.shadow = ShadowCursor(terms, head=0, acked=0, now=world.clock())
        self._quote(data.draw(st.integers(0, 5)))
        opened = self._send("PUT", "", self._settings(terms))
        assert opened.status == 201, opened
        self.last: tuple[str, dict[str, Any]] | None = None

    def _settings(self, terms: Terms) -> dict[str, Any]:
        return {
            "start": "earliest",
            "mode": terms.mode,
            "lease_seconds": terms.lease_ms / 1000,
            "max_batch": terms.max_batch,
            "max_attempts": terms.max_attempts,
            "on_poison": terms.on_poison,
            "backoff": {"initial_seconds": terms.backoff_ms / 1000, "max_seconds": 1},
        }

    @rule(count=st.integers(1, 3))
    def the_feed_grows(self, count: int) -> None:
        self._quote(count)

    @rule(ms=st.sampled_from([1, 200, 499, 500, 501, 999, 1000, 1001, 2500]))
    def time_passes(self, ms: int) -> None:
        self.world.clock.now += ms
        self.shadow.now += ms

    @rule(
        holder=st.sampled_from(HOLDERS),
        limit=st.sampled_from([1, 2, 4, 100]),
        token=st.sampled_from(["none", "own", "own", "none", "other"]),
        pipeline=st.sampled_from([False, False, False, True]),
    )
    def fetch(self, holder: str, limit: int, token: str, *, pipeline: bool) -> None:
        body: dict[str, Any] = {"holder": holder, "limit": limit}
        if pipeline:
            body["pipeline"] = True
        if token != "none":
            body["lease_token"] = self._token(holder, own=token == "own")
        self._fetch(body)

    @rule(holder=st.sampled_from(HOLDERS))
    def take_over(self, holder: str) -> None:
        """Let the lease end and another reader take the place: the rule that mutants hide from."""
        self.time_passes(LEASE_MS + 1)
        self._fetch({"holder": holder, "limit": 1})

    @rule(
        holder=st.sampled_from(HOLDERS),
        edge=st.sampled_from(["to", "to", "done", "inside"]),
        step=st.integers(-1, 1),
        own=st.sampled_from([True, True, True, False]),
    )
    def ack(self, holder: str, edge: str, step: int, *, own: bool) -> None:
        shadow = self.shadow
        to = shadow.held.to if shadow.held else shadow.acked
        base = {"to": to, "done": shadow.acked, "inside": shadow.acked + 1}[edge]
        body = {"lease_token": self._token(holder, own=own), "through": max(0, base + step)}
        self._act("ack", {"generation": 1, **body})

    @rule(
        holder=st.sampled_from(HOLDERS),
        offset=st.integers(0, 3),
        action=st.sampled_from(["retry", "retry", "park"]),
        rest=st.sampled_from([None, 0, 0.4]),
        own=st.sampled_from([True, True, True, False]),
    )
    def nack(self, holder: str, offset: int, action: str, rest: float | None, *, own: bool) -> None:
        at = self.shadow.acked + offset
        body = {"lease_token": self._token(holder, own=own), "at": at, "action": action}
        self._act("nack", body if rest is None else {**body, "retry_after": rest})

    @rule(holder=st.sampled_from(HOLDERS), seconds=st.sampled_from([0.5, 3, None]))
    def lease(self, holder: str, seconds: float | None) -> None:
        body: dict[str, Any] = {"lease_token": self._token(holder, own=True)}
        self._act("lease", {**body, **({"extend": seconds} if seconds else {"release": True})})

    @rule(share=st.sampled_from([0.0, 0.5, 1.0]))
    def seek(self, share: float) -> None:
        self._act("seek", {"to": int(self.shadow.head * share), "reason": "model"})

    @precondition(lambda self: self.last is not None)
    @rule()
    def repeat(self) -> None:
        """G5: the same call again, whatever came of it."""
        assert self.last is not None
        act, body = self.last
        self._fetch(body) if act == "fetch" else self._act(act, body)

    def _compare(self, shown: dict[str, Any]) -> None:
        """Compare the cursor as it is shown after an act with its shadow."""
        shadow = self.shadow
        assert shown["head"] == shadow.head
        assert shown["acked"] == shadow.done()
        assert shown["parked"] == len(shadow.put_aside)
        assert shown.get("blocked") == shadow.blocked
        lease = shown.get("lease")
        assert (lease and parse_iso(lease["expires_at"])) == (shadow.held and shadow.held.until)

    def _fetch(self, body: dict[str, Any]) -> None:
        self.counts["fetch"] += 1
        self.last = ("fetch", body)
        answer = self._send("POST", "/fetch", body)
        self._compare_hand_out(body, answer)
        self._compare(self.shown)

    def _compare_hand_out(self, body: dict[str, Any], answer: Answer) -> None:
        shadow = self.shadow
        try:
            given = shadow.fetch(
                body["holder"],
                body.get("lease_token"),
                body["limit"],
                pipeline=body.get("pipeline", False),
            )
        except Refusal as refusal:
            _same(answer, refusal, body)
            return
        assert answer.status == 200, (body, answer)
        assert [event["pos"] for event in answer.body["events"]] == given, (body, answer.body)
        if shadow.terms.mode == "ack":
            tried = [event["attempt"] for event in answer.body["events"]]
            assert tried == [max(1, shadow.handed[pos]) for pos in given], body
            # Whatever the shadow counts: nothing is tried more often than it may be.
            assert all(count <= shadow.terms.max_attempts for count in tried), body
        assert (answer.body["acked"], answer.body["head"]) == (shadow.done(), shadow.head)
        token = answer.body["lease_token"]
        if shadow.granted:
            assert token > shadow.token, "tokens only grow"
            shadow.token = token
        elif given:
            assert token == shadow.token, "the same hand-out has the same token"
        if given:
            self.tokens[body["holder"]] = token

    def _act(self, act: str, body: dict[str, Any]) -> None:
        self.counts[act] += 1
        self.last = (act, body)
        again = act == "seek" and self.shadow.stands_at(body["to"])
        answer = self._send("POST", f"/{act}", body)
        self._compare_act(act, body, answer)
        if act == "seek":
            token = answer.body["lease_token"]
            assert token == self.shadow.token if again else token > self.shadow.token
            self.shadow.token = token
        self._compare(self.shown)

    def _compare_act(self, act: str, body: dict[str, Any], answer: Answer) -> None:
        try:
            expected = self._foretold(act, body)
        except Refusal as refusal:
            _same(answer, refusal, (act, body))
            return
        assert answer.status == 200, (act, body, answer)
        found = {name: answer.body[name] for name in expected}
        assert found == expected, (act, body)

    def _foretold(self, act: str, body: dict[str, Any]) -> dict[str, Any]:
        shadow, token = self.shadow, body.get("lease_token", 0)
        match act:
            case "ack":
                changed = shadow.ack(body["through"], token)
                return {"changed": changed, "acked": shadow.done()}
            case "nack":
                rest = body.get("retry_after")
                retry_ms = None if rest is None else int(rest * 1000)
                at = shadow.nack(body["at"], token, retry_ms, park=body["action"] == "park")
                if at is None:
                    return {"parked": body["at"]}
                return {"next_attempt_at": iso_of(UnixMs(at))}
            case "lease":
                if "extend" in body:
                    shadow.extend(token, int(body["extend"] * 1000))
                else:
                    shadow.release(token)
                return {"lease_token": token}
            case _:
                shadow.seek(body["to"])
                return {"acked": body["to"]}

    def _token(self, holder: str, *, own: bool) -> int:
        return self.tokens[holder if own else HOLDERS[HOLDERS.index(holder) - 1]]

    def _quote(self, count: int) -> None:
        for _ in range(count):
            body = {
                "protocol": "IVXP/1.0",
                "message_type": "service_request",
                "timestamp": iso_of(self.world.clock()),
                "client_agent": {"name": "model", "wallet_address": self.wallet},
                "service_request": {"type": "by_hand", "description": "x", "budget_usdc": 1},
            }
            [answer] = self.world.ask(post("/ivxp/request", body))
            assert answer.status == 200, answer
            self.shadow.head += 1

    def _send(self, method: str, rest: str, body: dict[str, Any]) -> Answer:
        """Do an act and look at the cursor right after it; what it shows is compared later."""
        asked = post(self.path + rest, body, self.bearer)
        look = get(self.path, Authorization=f"Bearer {self.bearer}")
        act = Ask(method, asked.path, asked.body, asked.headers)
        answer, shown = self.world.ask(act, look)
        assert shown.status == 200, shown
        self.shown = shown.body
        return answer


def _same(answer: Answer, refusal: Refusal, asked: object) -> None:
    assert answer.outcome == refusal.outcome, (asked, answer)
