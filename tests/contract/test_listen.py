"""`ivxp-ledger listen` and `dead-letters`: real processes, a real receiver, real kills."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import RawTestServer
from typer.testing import CliRunner

from api.client.webhooks import WebhookRefused, read_secrets, signed_headers, verify_webhook
from ledger.signing import write_secret
from scripts.cli import main
from tests.contract.callers import Caller, signed_in
from tests.contract.kit import WAIT_SECONDS, Service, serving
from tests.contract.reading import key_of, quotes
from tests.support.faults import seed

VECTOR: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parents[1] / "assets" / "standard_webhooks.json").read_text()
)
LISTENER = "listener"
KEYS = read_secrets(VECTOR["secret"])
ROTATED = "whsec_" + "QUJD" * 8


@dataclass
class Receiver:
    """An endpoint that verifies each request, remembers it, and answers as it is told."""

    now: Callable[[], float]
    url: str = ""
    answer: Callable[[str, int], int] = lambda _event_id, _n: 204
    seen: Counter[str] = field(default_factory=Counter)
    order: list[str] = field(default_factory=list)
    bodies: dict[str, set[bytes]] = field(default_factory=dict)
    came: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        event_id = verify_webhook(KEYS, request.headers, body, self.now())
        assert request.content_type == "application/json"
        async with self.came:
            self.seen[event_id] += 1
            self.order.append(event_id)
            self.bodies.setdefault(event_id, set()).add(body)
            self.came.notify_all()
        status = self.answer(event_id, self.seen[event_id])
        headers = {"Location": self.url} if status in range(300, 400) else {}
        return web.Response(status=status, headers=headers)

    async def has(self, requests: int) -> None:
        async with asyncio.timeout(3 * WAIT_SECONDS), self.came:  # a process starts in there
            await self.came.wait_for(lambda: len(self.order) >= requests)


@pytest_asyncio.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(tmp_path) as found:
        yield found


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    found = Receiver(time.time)
    server = RawTestServer(found.handle)
    await server.start_server()
    found.url = str(server.make_url("/hook"))
    yield found
    await server.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_secret(tmp_path / "key.json", key_of(LISTENER))
    return tmp_path


@dataclass
class Command:
    """Runs `ivxp-ledger`, with the key in a file and the webhook secret in the environment."""

    service: Service
    folder: Path
    running: list[Process] = field(default_factory=list)

    async def start(self, *arguments: str) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "scripts.cli", *arguments),
            stdout=PIPE,
            stderr=PIPE,
            env={"HOOK_SECRET": VECTOR["secret"], "PATH": "/usr/bin:/bin"},
        )
        self.running.append(process)
        return process

    async def here(self, *arguments: str) -> tuple[int, list[Any], str]:
        """Run it in this process, where it neither listens nor is killed."""
        runner = CliRunner(env={"HOOK_SECRET": VECTOR["secret"]})
        found = await asyncio.to_thread(runner.invoke, main, arguments)
        return (
            found.exit_code,
            [json.loads(line) for line in found.stdout.splitlines()],
            found.stderr,
        )

    async def run(self, *arguments: str) -> tuple[int | None, list[Any], str]:
        """Return exit code, the printed JSON lines, and what was said beside them."""
        process = await self.start(*arguments)
        async with asyncio.timeout(60):
            out, err = await process.communicate()
        return process.returncode, [json.loads(line) for line in out.splitlines()], err.decode()

    def listen(self, *more: str, cursor: str = "ears") -> list[str]:
        key = str(self.folder / "key.json")
        return ["listen", "--url", self.service.url, "--cursor", cursor, "--key-file", key, *more]

    def forward(self, receiver: Receiver, *more: str) -> list[str]:
        state = str(self.folder / "listen.db")
        to = ["--forward", receiver.url, "--secret-env", "HOOK_SECRET", "--state", state]
        return self.listen(*to, "--allow-private", *more)


@asynccontextmanager
async def commands(service: Service, folder: Path) -> AsyncIterator[Command]:
    found = Command(service, folder)
    try:
        yield found
    finally:
        for process in found.running:
            if process.returncode is None:
                process.kill()
                await process.wait()


@pytest_asyncio.fixture
async def command(service: Service, folder: Path) -> AsyncIterator[Command]:
    async with commands(service, folder) as found:
        yield found


@pytest_asyncio.fixture
async def owner(service: Service) -> Caller:
    return await signed_in(service, LISTENER)


async def acked(owner: Caller, cursor: str = "ears") -> int:
    found = await owner.get(f"/v1/feeds/{owner.address}/cursors/{cursor}")
    return int(found.body.get("acked", 0))


async def event_ids(owner: Caller) -> list[str]:
    events = (await owner.get(f"/v1/feeds/{owner.address}/events?limit=1000")).body["events"]
    return [event["event_id"] for event in events]


def test_a_signature_is_that_of_the_published_vector() -> None:
    body = VECTOR["body"].encode()
    headers = signed_headers(KEYS, VECTOR["id"], VECTOR["timestamp"], body)

    assert headers == {
        "webhook-id": VECTOR["id"],
        "webhook-timestamp": str(VECTOR["timestamp"]),
        "webhook-signature": VECTOR["signature"],
    }
    assert verify_webhook(KEYS, headers, body, VECTOR["timestamp"] + 299) == VECTOR["id"]


def test_a_webhook_that_is_changed_old_or_signed_otherwise_is_refused() -> None:
    body, at = VECTOR["body"].encode(), VECTOR["timestamp"]
    good = signed_headers(KEYS, VECTOR["id"], at, body)
    wrong: list[tuple[dict[str, str], bytes, float]] = [
        (good, body + b" ", at),
        ({**good, "webhook-id": "msg_other"}, body, at),
        ({**good, "webhook-timestamp": str(at + 1)}, body, at),
        (good, body, at + 301),
        (good, body, at - 301),
        ({**good, "webhook-signature": good["webhook-signature"].replace("v1,", "v1a,")}, body, at),
        ({**good, "webhook-signature": ""}, body, at),
        ({**good, "webhook-timestamp": "soon"}, body, at),
        (signed_headers(read_secrets(ROTATED), VECTOR["id"], at, body), body, at),
    ]
    for headers, data, now in wrong:
        with pytest.raises(WebhookRefused):
            verify_webhook(KEYS, headers, data, now)


def test_while_secrets_rotate_each_of_them_is_enough() -> None:
    keys = read_secrets(f"{ROTATED} {VECTOR['secret']}")
    headers = signed_headers(keys, "id", 100, b"{}")

    assert verify_webhook(KEYS, headers, b"{}", 100) == "id"
    assert verify_webhook(read_secrets(ROTATED), headers, b"{}", 100) == "id"


@pytest.mark.parametrize(
    "text", ["", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_QUJD", "whsec_???"]
)
def test_a_secret_of_another_form_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(ValueError, match="24 to 64 bytes") as refused:
        read_secrets(text)

    assert text == "" or text.removeprefix("whsec_") == "" or text not in str(refused.value)


async def test_each_event_is_printed_once_and_the_next_run_goes_on(
    service: Service, command: Command, owner: Caller
) -> None:
    await quotes(service, LISTENER, 3)
    code, lines, _ = await command.run(*command.listen("--once"))
    assert code == 0
    assert [line["pos"] for line in lines] == [1, 2, 3]
    assert [line["event_id"] for line in lines] == await event_ids(owner)
    leaf = sha256(b"\0" + lines[0]["data"]["entry"].encode()).hexdigest()
    assert lines[0]["event_id"].endswith("-" + leaf)

    await quotes(service, LISTENER, 1)
    code, lines, _ = await command.run(*command.listen("--once"))

    assert (code, [line["pos"] for line in lines]) == (0, [4])


async def test_a_listener_that_is_killed_misses_nothing(
    service: Service, command: Command, owner: Caller
) -> None:
    number = seed()
    chance = Random(number)  # noqa: S311 - a reproducible choice
    await quotes(service, LISTENER, 40)
    printed: list[int] = []
    kills = 0
    while kills < 3:
        process = await command.start(*command.listen("--lease-seconds", "0.5"))
        assert process.stdout is not None
        wanted = chance.randrange(1, 12)
        async with asyncio.timeout(3 * WAIT_SECONDS):  # a process starts in there
            while wanted > 0 and (line := await process.stdout.readline()):
                printed.append(json.loads(line)["pos"])
                wanted -= 1
        process.kill()
        rest = await process.stdout.read()
        # A line that the kill cut in two was never handed over whole: its event comes again.
        printed += [json.loads(line)["pos"] for line in rest.split(b"\n")[:-1]]
        await process.wait()
        kills += 1
        await quotes(service, LISTENER, 5)

    code, lines, _ = await command.run(*command.listen("--once", "--lease-seconds", "0.5"))
    printed += [line["pos"] for line in lines]

    assert code == 0
    assert set(printed) == set(range(1, 56))
    first_times = list(dict.fromkeys(printed))
    assert first_times == sorted(first_times)


async def test_events_are_posted_on_with_signatures(
    service: Service, command: Command, receiver: Receiver, owner: Caller
) -> None:
    await quotes(service, LISTENER, 3)

    code, lines, err = await command.run(*command.forward(receiver, "--once"))

    assert (code, err) == (0, "")
    assert receiver.order == [line["event_id"] for line in lines] == await event_ids(owner)
    body = json.loads(next(iter(receiver.bodies[receiver.order[0]])))
    assert (body["type"], body["timestamp"]) == ("order.quoted", lines[0]["occurred_at"])
    assert body["data"]["data"]["entry"] == lines[0]["data"]["entry"]


async def test_a_forwarder_that_is_killed_posts_everything_with_the_same_id_and_bytes(
    service: Service, command: Command, receiver: Receiver, owner: Caller
) -> None:
    number = seed()
    chance = Random(number)  # noqa: S311 - a reproducible choice
    await quotes(service, LISTENER, 30)
    for _ in range(3):
        process = await command.start(*command.forward(receiver, "--lease-seconds", "0.5"))
        await receiver.has(len(receiver.order) + chance.randrange(1, 8))
        process.send_signal(signal.SIGKILL)
        await process.wait()

    code, _, err = await command.run(*command.forward(receiver, "--once", "--lease-seconds", "0.5"))

    assert (code, err) == (0, "")
    wanted = await event_ids(owner)
    assert list(dict.fromkeys(receiver.order)) == wanted
    assert all(len(bodies) == 1 for bodies in receiver.bodies.values())
    again = sum(receiver.seen.values()) - len(wanted)
    print(f"3 kills, {len(wanted)} events, {again} posted more than once, 0 missed")  # noqa: T201


async def test_what_is_not_taken_is_tried_again(
    service: Service, command: Command, receiver: Receiver, owner: Caller
) -> None:
    await quotes(service, LISTENER, 4)
    first = dict(zip(await event_ids(owner), (500, 404, 302, 429), strict=True))
    receiver.answer = lambda event_id, n: first[event_id] if n < 3 else 200

    code, _, err = await command.run(*command.forward(receiver, "--once", "--schedule", "0,0,0"))

    assert (code, err) == (0, "")
    assert set(receiver.seen.values()) == {3}


async def test_what_is_never_taken_is_a_dead_letter_that_can_be_replayed(
    service: Service, command: Command, receiver: Receiver, owner: Caller
) -> None:
    await quotes(service, LISTENER, 4)
    first, second, third, fourth = await event_ids(owner)
    dead = {second, third}
    receiver.answer = lambda event_id, _n: 500 if event_id in dead else 200
    state = str(command.folder / "listen.db")

    code, lines, err = await command.run(*command.forward(receiver, "--once", "--schedule", "0,0"))

    assert (code, len(lines)) == (0, 4)
    assert [receiver.seen[each] for each in (first, second, third, fourth)] == [1, 2, 2, 1]
    assert err.count("dead letter") == 2
    assert await acked(owner) == 4
    _, listed, _ = await command.here("dead-letters", "list", "--state", state)
    assert [(each["event_id"], each["attempts"], each["outcome"]) for each in listed] == [
        (second, 2, "500"),
        (third, 2, "500"),
    ]

    dead.remove(third)
    replay = ["dead-letters", "replay", "--state", state, "--secret-env", "HOOK_SECRET"]
    code, shown, _ = await command.here(*replay, "--allow-private")

    assert (code, shown) == (
        1,
        [{"event_id": second, "outcome": "500"}, {"event_id": third, "outcome": "taken"}],
    )
    assert len(receiver.bodies[third]) == 1
    dead.clear()
    code, shown, _ = await command.here(*replay, "--allow-private", "--event", second)
    assert (code, [each["outcome"] for each in shown]) == (0, ["taken"])
    _, listed, _ = await command.here("dead-letters", "list", "--state", state)
    assert listed == []


async def test_an_endpoint_that_is_gone_ends_it_and_its_event_comes_again(
    service: Service, command: Command, receiver: Receiver, owner: Caller
) -> None:
    await quotes(service, LISTENER, 3)
    second = (await event_ids(owner))[1]
    receiver.answer = lambda event_id, _n: 410 if event_id == second else 200

    code, _, err = await command.run(*command.forward(receiver))

    assert code == 3
    assert "410" in err
    assert receiver.seen[second] == 1
    assert await acked(owner) == 1


HERE = ["--forward", "http://127.0.0.1:1/"]
THERE = ["--forward", "https://example.com/"]
HIDDEN = ["--forward", "https://a:b@example.com/"]
SIGNED = ["--secret-env", "HOOK_SECRET", "--state", "{}"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (HERE, "--forward needs"),
        (HERE + SIGNED, "TARGET_BLOCKED"),
        (HIDDEN + SIGNED, "TARGET_BLOCKED"),
        ([*THERE, "--secret-env", "NO_SUCH", "--state", "{}"], "NO_SUCH"),
        ([*THERE, *SIGNED, "--schedule", "a"], "--schedule"),
        (["--key-env", "HOOK_SECRET"], "one of --key-file"),
    ],
)
async def test_what_cannot_be_used_is_said_before_anything_is_read(
    command: Command, more: list[str], said: str
) -> None:
    state = str(command.folder / "listen.db")

    code, lines, err = await command.here(*command.listen(*(each.format(state) for each in more)))

    assert (code, lines) == (2, [])
    assert said in err
    assert "MfKQ9r8" not in err


async def test_a_public_name_that_leads_to_this_machine_is_never_called(
    service: Service, command: Command, receiver: Receiver, owner: Caller
) -> None:
    await quotes(service, LISTENER, 1)
    state = str(command.folder / "listen.db")
    to = ["--forward", "https://localhost:8443/", "--secret-env", "HOOK_SECRET", "--state", state]

    code, _, _ = await command.run(*command.listen(*to, "--once", "--schedule", "0"))

    assert code == 0
    _, [letter], _ = await command.here("dead-letters", "list", "--state", state)
    assert letter["outcome"] == "blocked"
    assert receiver.order == []


async def test_a_listener_that_is_told_to_stop_gives_its_lease_back(
    service: Service, command: Command, receiver: Receiver, owner: Caller
) -> None:
    await quotes(service, LISTENER, 2)
    receiver.answer = lambda _event_id, _n: 500
    process = await command.start(*command.forward(receiver, "--schedule", "0,600"))
    await receiver.has(1)
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(WAIT_SECONDS):
        await process.communicate()

    assert process.returncode == 0
    path = f"/v1/feeds/{owner.address}/cursors/ears/fetch"
    found = (await owner.post(path, {"holder": "another"})).body
    assert [event["attempt"] for event in found["events"]] == [1, 1]
