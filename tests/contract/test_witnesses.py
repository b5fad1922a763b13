"""The service and its witnesses: what it asks, what it believes, and what it shows of them."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
import tlog_scales.signing
import tlog_scales.tlog
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.exceptions import InvalidSignature

from api.keys import LEDGER
from api.witnesses import WITNESSES, Standing
from api.workers import witnesses as rounds
from api.workers.witnesses import ASKER, PUBLISHED_FILE
from ledger.cosignature import Cosigner
from ledger.errors import Misconfigured
from ledger.signing import write_secret
from ledger.witness import parse_submission
from scripts.buyer import Answer
from tests.contract.kit import MovableClock, Service, make_settings, serving
from tests.support.witnessing import (
    Log,
    WitnessProcess,
    checked_time,
    head_of,
    newest,
    submit,
    text_of,
    witnessing,
)

ORIGIN = "witnessed.test/ivxp/ledger"
SEED = b"\x09" * 32
LOG = Log(ORIGIN, SEED)
OPTION = f"{ORIGIN}={LOG.vkey}"
NEVER = 3600
"""Rounds are made by the tests, one by one."""
Line = MutableMapping[str, Any]
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "witness.md").read_text("utf-8")


def named(*witnesses: WitnessProcess | Liar) -> str:
    """Return the setting that names these witnesses."""
    return ",".join(f"{witness.vkey}@{witness.url}" for witness in witnesses)


@asynccontextmanager
async def witnessed(
    folder: Path, *witnesses: WitnessProcess | Liar, quorum: int = 0, **changes: object
) -> AsyncIterator[Service]:
    """Run the service with these witnesses and a log key that they may know beforehand."""
    key = folder / "log.json"
    if not key.exists():
        write_secret(key, SEED)
    values: dict[str, object] = {
        "origin": ORIGIN,
        "log_key": f"file:{key}",
        "witnesses": named(*witnesses),
        "witness_quorum": quorum,
        "witness_interval": NEVER,
        **changes,
    }
    async with serving(folder, **values) as service:  # type: ignore[arg-type]  # settings, and a clock
        yield service


async def grow(service: Service, count: int = 1) -> None:
    for _ in range(count):
        await service.quote(service.buyer("grower"))


async def round_of(service: Service) -> None:
    """Ask the witnesses once, as the loop does."""
    await service.app[ASKER].ask_all(service.app[LEDGER])


async def fetched(service: Service, path: str) -> str:
    async with service.session.get(service.url + path) as response:
        assert response.status == 200
        return await response.text()


async def checkpoint(service: Service) -> str:
    return await fetched(service, "/ledger/checkpoint")


async def health(service: Service) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = (await service.buyer("health").get("/health")).require(200)[
        "witnesses"
    ]
    return found


def signers(note: str) -> list[str]:
    return [line.split(" ")[1] for line in note.rpartition("\n\n")[2].splitlines()]


def checked_by_page(note: str, witnesses: list[str], quorum: int) -> dict[str, int]:
    """Run the program of the page; return whose cosignatures it found, and their times."""
    [program] = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {"note": note, "witnesses": witnesses, "quorum": quorum}
    exec(program, names)  # noqa: S102 - the page's own program
    times: dict[str, int] = names["times"]
    return times


async def test_the_newest_checkpoint_with_a_quorum_is_published(tmp_path: Path) -> None:
    with witnessing(tmp_path / "w", OPTION) as witness:
        async with witnessed(tmp_path, witness, quorum=1) as service:
            first = await checkpoint(service)
            await grow(service, 3)
            still = await checkpoint(service)
            await round_of(service)
            then = await checkpoint(service)
            size, root = service.app[LEDGER].head.size, service.app[LEDGER].head.root

            assert still == first
            assert head_of(first)[0] < head_of(then)[0] == size
            assert head_of(then) == (size, root)
            for note in (first, then):
                assert signers(note) == [ORIGIN, "witness.test/w1"]
                assert checked_by_page(note, [witness.vkey], 1).keys() == {"witness.test/w1"}
            held = await newest(service.session, witness.url, ORIGIN)
            assert held.text == then


async def test_the_program_on_the_page_refuses_what_is_not_cosigned(tmp_path: Path) -> None:
    with witnessing(tmp_path / "w", OPTION) as witness:
        async with witnessed(tmp_path, witness, quorum=1) as service:
            note = await checkpoint(service)
            other = Cosigner("witness.test/other", b"\x01" * 32).key.vkey()

            with pytest.raises(InvalidSignature):
                checked_by_page(note.replace("\n1\n", "\n3\n"), [witness.vkey], 1)
            with pytest.raises(AssertionError):
                checked_by_page(note, [other], 1)
            with pytest.raises(AssertionError):
                checked_by_page(note, [witness.vkey, other], 2)


async def test_another_implementation_verifies_what_is_published(tmp_path: Path) -> None:
    with witnessing(tmp_path / "w", OPTION) as witness:
        async with witnessed(tmp_path, witness, quorum=1) as service:
            published = tlog_scales.tlog.Checkpoint.from_text(await checkpoint(service))
            keys = [tlog_scales.signing.Vkey.from_string(k) for k in (LOG.vkey, witness.vkey)]

            valid = tlog_scales.signing.VkeySet(*keys).verify(published.signatures, published)

            assert len(valid) == 2


async def test_without_a_quorum_the_newest_is_published_with_what_it_has(tmp_path: Path) -> None:
    with witnessing(tmp_path / "w", OPTION) as witness:
        async with witnessed(tmp_path, witness) as service:
            cosigned = await checkpoint(service)
            await grow(service)
            bare = await checkpoint(service)

            assert signers(cosigned) == [ORIGIN, "witness.test/w1"]
            assert signers(bare) == [ORIGIN]
            assert bare == service.app[LEDGER].head.note


@pytest.mark.parametrize(("quorum", "last"), [(0, ["quorum none"]), (2, ["quorum witnesses"])])
async def test_the_policy_names_the_witnesses_and_their_quorum(
    tmp_path: Path, quorum: int, last: list[str]
) -> None:
    with (
        witnessing(tmp_path / "w1", OPTION) as one,
        witnessing(tmp_path / "w2", OPTION, name="witness.test/w2") as two,
    ):
        async with witnessed(tmp_path, one, two, quorum=quorum) as service:
            lines = (await fetched(service, "/ledger/policy")).splitlines()
            note = await checkpoint(service)

    group = ["group witnesses 2 w1 w2"] if quorum else []
    assert lines == [
        f"log {LOG.vkey}",
        f"witness w1 {one.vkey}",
        f"witness w2 {two.vkey}",
        *group,
        *last,
    ]
    assert len(checked_by_page(note, [one.vkey, two.vkey], 2)) == 2


async def test_a_log_without_witnesses_says_so(tmp_path: Path) -> None:
    async with witnessed(tmp_path) as service:
        assert await fetched(service, "/ledger/policy") == f"log {LOG.vkey}\nquorum none\n"
        assert await health(service) == {}


async def test_nothing_is_published_before_the_quorum_is_met(tmp_path: Path) -> None:
    with witnessing(tmp_path / "w1", OPTION) as one:
        two = WitnessProcess(tmp_path / "w2", OPTION, name="witness.test/w2").start()
        two.kill()
        async with witnessed(tmp_path, one, two, quorum=2) as service:
            refused: Answer = await service.buyer("early").get("/ledger/checkpoint")
            states = {name: each["state"] for name, each in (await health(service)).items()}
            two.start()
            await round_of(service)
            note = await checkpoint(service)
            two.kill()

    assert (refused.status, refused.body["error"]) == (503, "SERVICE_UNAVAILABLE")
    assert refused.body["retryable"] is True
    assert states == {"witness.test/w1": "cosigned", "witness.test/w2": "silent"}
    assert signers(note) == [ORIGIN, "witness.test/w1", "witness.test/w2"]


async def test_what_was_published_is_published_after_a_restart_too(tmp_path: Path) -> None:
    witness = WitnessProcess(tmp_path / "w", OPTION).start()
    async with witnessed(tmp_path, witness, quorum=1) as service:
        before = await checkpoint(service)
        await grow(service, 2)
    witness.kill()
    async with witnessed(tmp_path, witness, quorum=1) as service:
        assert await checkpoint(service) == before
    file = tmp_path / "data" / PUBLISHED_FILE
    for text in ("junk", before.replace("witness.test/w1", "witness.test/w9"), LOG.note(0)):
        file.write_text(text)
        async with witnessed(tmp_path, witness, quorum=1) as service:
            answer = await service.buyer("later").get("/ledger/checkpoint")
            assert answer.status == 503


async def test_a_log_that_stands_still_is_cosigned_again_after_an_hour(tmp_path: Path) -> None:
    clock = MovableClock()
    with witnessing(tmp_path / "w", OPTION) as witness:
        async with witnessed(tmp_path, witness, clock=clock) as service:
            counts = []
            for minutes in (0, 59, 61):
                clock.offset_ms = minutes * 60_000
                await round_of(service)
                counts.append((await health(service))["witness.test/w1"]["asked"])

    assert counts == [1, 1, 2]


async def test_a_witness_that_is_elsewhere_is_asked_from_where_it_is(tmp_path: Path) -> None:
    with witnessing(tmp_path / "w", OPTION) as witness:
        async with witnessed(tmp_path, witness) as service:
            await grow(service, 5)
            service.app[WITNESSES].standings[0].size = 0
            await round_of(service)

            shown = (await health(service))["witness.test/w1"]
            assert (shown["state"], shown["cosigned"], shown["asked"]) == ("cosigned", 2, 2)
            assert shown["size"] == service.position
            assert head_of(await checkpoint(service))[0] == service.position


async def test_a_newer_checkpoint_of_ours_that_somebody_submitted_is_no_refusal(
    tmp_path: Path,
) -> None:
    with witnessing(tmp_path / "w", OPTION) as witness:
        async with witnessed(tmp_path, witness) as service:
            old = service.app[LEDGER].head
            await grow(service, 2)
            await round_of(service)
            standing = service.app[WITNESSES].standings[0]
            standing.size = old.size
            await service.app[ASKER]._ask(standing, service.app[LEDGER], old)

            assert (await health(service))["witness.test/w1"]["refused"] == 0
            await grow(service)
            await round_of(service)
            assert (await health(service))["witness.test/w1"]["state"] == "cosigned"


Reply = Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]


@dataclass
class Liar:
    """Something that calls itself a witness, with the key of one, and answers as it likes."""

    reply: Reply
    held: str | None = None
    url: str = ""
    cosigner: Cosigner = field(default_factory=lambda: Cosigner("witness.test/liar", b"\x05" * 32))
    asked: int = 0

    @property
    def vkey(self) -> str:
        return self.cosigner.key.vkey()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Liar]:
        app = web.Application()
        app.router.add_post("/add-checkpoint", self._post)
        app.router.add_get("/{name}/checkpoint", self._get)
        async with TestServer(app) as server:
            self.url = str(server.make_url("")).rstrip("/")
            yield self

    async def _post(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        return await self.reply(request, await request.read())

    async def _get(self, _: web.Request) -> web.Response:
        return web.Response(text=self.held) if self.held else web.Response(status=404)

    def line(self, body: bytes, at: int = 1_763_800_000) -> str:
        return self.cosigner.cosign(parse_submission(body).note.text, at).line()


def answering(status: int, text: str = "no\n", kind: str = "text/plain") -> Reply:
    async def reply(_: web.Request, __: bytes) -> web.Response:
        return web.Response(status=status, body=text.encode(), content_type=kind)

    return reply


async def hang(request: web.Request, _: bytes) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await asyncio.Event().wait()
    return response


async def redirect(_: web.Request, __: bytes) -> web.Response:
    return web.Response(status=307, headers={"Location": "/elsewhere"})


async def cut(request: web.Request, _: bytes) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def one_size_after_another(_: web.Request, body: bytes) -> web.Response:
    size = b"%d\n" % (1 - parse_submission(body).old)
    return web.Response(status=409, body=size, content_type="text/x.tlog.size")


STRANGER = Cosigner("witness.test/stranger", b"\x06" * 32)
SAME_NAME = Cosigner("witness.test/liar", b"\x06" * 32)
SIZE = "text/x.tlog.size"
LIES: dict[str, tuple[Reply, str]] = {
    "words": (answering(200, "thank you\n"), "declined"),
    "nothing": (answering(200, ""), "declined"),
    "bytes": (answering(200, "\x00\x1f"), "declined"),
    "another checkpoint": (answering(200, LOG.note(0)), "declined"),
    "too much": (answering(200, "— a AAAAAAAA\n" * 9000), "silent"),
    "a redirect": (redirect, "declined"),
    "no answer": (hang, "silent"),
    "a cut": (cut, "silent"),
    "its own failure": (answering(500), "silent"),
    "not now": (answering(429), "silent"),
    "an unknown log": (answering(404), "declined"),
    "an unknown key": (answering(403), "declined"),
    "a bad request": (answering(400), "declined"),
    "a size that is none": (answering(409, "01\n", SIZE), "declined"),
    "a size with more after it": (answering(409, "0\n\n", SIZE), "declined"),
    "the size that was sent": (answering(409, "0\n", SIZE), "declined"),
    "a conflict without a reason": (answering(409), "declined"),
    "no consistency from nothing": (answering(422), "declined"),
    "another size each time": (one_size_after_another, "declined"),
    "a size beyond the ledger": (answering(409, "1000000\n", SIZE), "refused"),
}


@pytest.mark.parametrize("lie", list(LIES))
async def test_nothing_that_does_not_verify_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    reply, state = LIES[lie]
    if state == "silent":
        monkeypatch.setattr(rounds, "TIMEOUT_SECONDS", 0.5)
    async with Liar(answering(200, "")).running() as liar, witnessed(tmp_path, liar) as service:
        liar.reply = reply
        await round_of(service)
        asked = liar.asked
        shown = (await health(service))["witness.test/liar"]

        assert signers(await checkpoint(service)) == [ORIGIN]
        assert (shown["state"], shown["cosigned"]) == (state, 0)
        assert shown["detail"]
        assert asked <= rounds.MAX_TRIES * 2
        await grow(service)  # no refusal keeps anybody from writing


@pytest.mark.parametrize("name", ["foreign lines", "a bad line of its own", "of its name"])
async def test_of_an_answer_only_the_witnesss_own_lines_count(tmp_path: Path, name: str) -> None:
    async def reply(_: web.Request, body: bytes) -> web.Response:
        text = parse_submission(body).note.text
        foreign = STRANGER.cosign(text, 7).line() + SAME_NAME.cosign(text, 7).line()
        lines = {
            "foreign lines": foreign + liar.line(body) + "— junk AAAAAAAA\n",
            "a bad line of its own": liar.line(body) + liar.cosigner.cosign("x\n", 7).line(),
            "of its name": SAME_NAME.cosign(text, 7).line(),
        }
        return web.Response(text=lines[name])

    liar = Liar(reply)
    async with liar.running(), witnessed(tmp_path, liar) as service:
        published = signers(await checkpoint(service))
        lines = (await checkpoint(service)).rpartition("\n\n")[2].splitlines(keepends=True)
        if name == "foreign lines":
            assert published == [ORIGIN, "witness.test/liar"]
            note = text_of(await checkpoint(service))
            assert checked_time(note, lines[-1], liar.vkey) == 1_763_800_000
        else:
            assert published == [ORIGIN]


@pytest.fixture
def logged() -> Iterator[list[Line]]:
    """Collect what the service says aloud."""
    speaking = structlog.make_filtering_bound_logger(logging.INFO)
    quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=speaking)
    with structlog.testing.capture_logs() as lines:
        yield lines
    structlog.configure(wrapper_class=quiet)


async def test_a_witness_that_knows_more_is_a_loud_refusal_and_writing_goes_on(
    tmp_path: Path, logged: list[Line]
) -> None:
    liar = Liar(answering(404))
    async with liar.running(), witnessed(tmp_path, liar) as service:
        liar.reply = answering(409, "1000000\n", SIZE)
        liar.held = "what the witness holds"
        for _ in range(3):
            await round_of(service)
        position = service.position
        await grow(service)
        shown = (await health(service))["witness.test/liar"]

    said = [line for line in logged if line["event"] == "witness_refused"]
    assert service.position == position + 1
    assert (shown["state"], shown["refused"]) == ("refused", 3)
    assert "1000000 events" in shown["detail"]
    assert [(line["log_level"], line["witness"]) for line in said] == [
        ("error", "witness.test/liar")
    ]
    assert said[0]["holds"] == "what the witness holds"


async def test_a_witness_of_another_history_is_a_loud_refusal_until_it_is_over(
    tmp_path: Path, logged: list[Line]
) -> None:
    witness = WitnessProcess(tmp_path / "w", OPTION).start()
    witness.kill()
    async with witnessed(tmp_path, witness) as service:
        await grow(service, 6)
        witness.start()
        fork = Log(ORIGIN, SEED).grow(4)
        assert (await submit(service.session, witness.url, fork.submission(0))).status == 200
        await round_of(service)
        shown = (await health(service))["witness.test/w1"]
        witness.kill()

    assert (shown["state"], shown["refused"]) == ("refused", 1)
    assert "another history" in shown["detail"]
    [said] = [line for line in logged if line["event"] == "witness_refused"]
    assert said["holds"].startswith(fork.note())


async def refused(folder: Path, *witnesses: WitnessProcess | Liar) -> str:
    with pytest.raises(Misconfigured) as start:
        async with witnessed(folder, *witnesses):
            pass
    return start.value.message


async def test_a_ledger_that_a_witness_contradicts_does_not_start(tmp_path: Path) -> None:
    fork = Log(ORIGIN, SEED).grow(4)
    async with witnessed(tmp_path) as service:
        await grow(service, 1)
        ours = service.position
    guard = (tmp_path / "data.guard").read_bytes()
    async with aiohttp.ClientSession() as session:
        for size, words in ((ours + 1, f"the ledger ends at {ours}"), (ours, "another history")):
            with witnessing(tmp_path / f"w{size}", OPTION) as witness:
                await submit(session, witness.url, fork.submission(0, size))
                message = await refused(tmp_path, witness)
                assert words in message
                assert "witness.test/w1" in message
                held = await newest(session, witness.url, ORIGIN)
                assert head_of(held.text)[0] == size
    assert (tmp_path / "data.guard").read_bytes() == guard
    async with witnessed(tmp_path) as service:
        assert service.position == ours


async def test_a_new_ledger_does_not_take_the_place_of_one_that_a_witness_knows(
    tmp_path: Path,
) -> None:
    async with aiohttp.ClientSession() as session:
        with witnessing(tmp_path / "w", OPTION) as witness:
            await submit(session, witness.url, Log(ORIGIN, SEED).grow(4).submission(0))
            message = await refused(tmp_path, witness)

    assert "the ledger ends at 0" in message
    assert not (tmp_path / "data" / "ledger.db").exists()
    assert not (tmp_path / "data.guard").exists()


async def test_a_witness_that_shows_nothing_is_asked_before_the_start(tmp_path: Path) -> None:
    async with witnessed(tmp_path) as service:
        await grow(service, 2)
    liar = Liar(answering(409, "77\n", SIZE))
    async with liar.running():
        message = await refused(tmp_path, liar)

    assert "it cosigned 77 events" in message


@pytest.mark.parametrize("held", ["junk", "— a b\n", LOG.note(0), Log("x", SEED).grow(9).note()])
async def test_what_a_witness_shows_and_did_not_cosign_is_not_believed(
    tmp_path: Path, held: str
) -> None:
    liar = Liar(answering(404), held=held)
    async with liar.running(), witnessed(tmp_path, liar) as service:
        assert (await health(service))["witness.test/liar"]["state"] == "declined"


async def test_silent_witnesses_stop_no_start(tmp_path: Path) -> None:
    witness = WitnessProcess(tmp_path / "w", OPTION).start()
    witness.kill()
    async with witnessed(tmp_path, witness) as service:
        await grow(service)
        assert (await health(service))["witness.test/w1"]["state"] == "silent"


KEYS = [Cosigner(f"witness.test/{n}", bytes([n]) * 32).key.vkey() for n in (1, 2)]
RENAMED = Cosigner("witness.test/3", b"\x01" * 32).key.vkey()
SAME = Cosigner("witness.test/1", b"\x02" * 32).key.vkey()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"witnesses": KEYS[0]}, "WITNESSES: "),
        ({"witnesses": f"{KEYS[0]}@"}, "where to ask is missing"),
        ({"witnesses": f"{KEYS[0]}@witness.test"}, "an http or https URL is needed"),
        ({"witnesses": f"{KEYS[0]}@https://witness.test/"}, "without a slash at its end"),
        ({"witnesses": f"{KEYS[0]}@https://a:b@witness.test"}, "WITNESSES: "),
        ({"witnesses": f"{LOG.vkey}@https://witness.test"}, "type 04"),
        ({"witnesses": f"{KEYS[0]}@http://a.test,{KEYS[0]}@http://b.test"}, "the same name"),
        ({"witnesses": f"{KEYS[0]}@http://a.test,{SAME}@http://b.test"}, "the same name"),
        ({"witnesses": f"{KEYS[0]}@http://a.test,{RENAMED}@http://b.test"}, "the same key"),
        ({"witness_quorum": 1}, "WITNESS_QUORUM: there are 0 in LEDGER_WITNESSES"),
        (
            {"witnesses": f"{KEYS[0]}@http://a.test", "witness_quorum": 2},
            "WITNESS_QUORUM: there are 1",
        ),
        ({"witness_quorum": -1}, "WITNESS_QUORUM: "),
        ({"witness_interval": 0}, "WITNESS_INTERVAL: "),
    ],
)
async def test_a_setting_of_witnesses_that_cannot_be_is_said(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(Misconfigured) as problem:
        make_settings(tmp_path, **changes)

    assert words in problem.value.message
    assert len(problem.value.message.splitlines()) == 1


async def test_the_setting_takes_every_form_that_a_witness_may_have(tmp_path: Path) -> None:
    text = f" {KEYS[0]}@https://witness.test/a/b , {KEYS[1]}@http://[::1]:8403,"
    found = make_settings(tmp_path, witnesses=text, witness_quorum=2).witnesses

    assert [witness.key.vkey() for witness in found] == KEYS
    assert [witness.url for witness in found] == ["https://witness.test/a/b", "http://[::1]:8403"]


async def test_a_standing_counts_every_round(tmp_path: Path) -> None:
    [address] = make_settings(tmp_path, witnesses=f"{KEYS[0]}@http://a.test").witnesses
    standing = Standing(address)
    news = [
        standing.ended("silent", "x"),
        standing.ended("silent", "x"),
        standing.ended("cosigned"),
    ]

    assert news == [True, False, True]
    assert {name: standing.health()[name] for name in ("asked", "silent", "cosigned")} == {
        "asked": 3,
        "silent": 2,
        "cosigned": 1,
    }
