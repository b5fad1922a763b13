"""The witness over HTTP, asked by a log that is written out by hand, and by published requests."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
import tlog_scales.signing
import tlog_scales.tlog
from aiohttp.test_utils import TestServer

from ledger.errors import Misconfigured
from ledger.values import UnixMs
from scripts.witness import WitnessConfig, opened, parse_logs, witness_app
from tests.support.witnessing import (
    Log,
    Said,
    WitnessProcess,
    checked_time,
    head_of,
    newest,
    submit,
    text_of,
    vkey_of,
    witnessing,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

ASSETS = Path(__file__).resolve().parents[1] / "assets" / "witness"
PUBLISHED = json.loads((ASSETS / "submissions.json").read_text("utf-8"))
PUBLISHED_LOG = (
    f"{PUBLISHED['origin']}={vkey_of(PUBLISHED['origin'], bytes.fromhex(PUBLISHED['log']))}"
)
NAMES = [f"log.test/{number}" for number in range(40)]
SEED = b"\x07" * 32
OTHER_SEED = b"\x08" * 32


def option(log: Log) -> str:
    return f"{log.origin}={log.vkey}"


@pytest.fixture(scope="module")
def witness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WitnessProcess]:
    logs = [option(Log(name, SEED)) for name in NAMES]
    two = [option(Log("log.test/two", SEED)), option(Log("log.test/two", OTHER_SEED))]
    with witnessing(tmp_path_factory.mktemp("witness"), *logs, PUBLISHED_LOG, *two) as running:
        yield running


@pytest.fixture(scope="module")
def names() -> Iterator[str]:
    """Return origins that no test has used yet."""
    return iter(NAMES)


@pytest.fixture
def log(names: Iterator[str]) -> Log:
    return Log(next(names), SEED).grow(40)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened_session:
        yield opened_session


class Asked:
    """A witness as a log sees it."""

    def __init__(self, witness: WitnessProcess, session: aiohttp.ClientSession) -> None:
        self.witness = witness
        self.session = session

    async def submit(self, body: str | bytes) -> Said:
        return await submit(self.session, self.witness.url, body)

    async def newest(self, log: Log) -> Said:
        return await newest(self.session, self.witness.url, log.origin)

    async def cosigns(self, log: Log, old: int, size: int) -> int:
        """Have a size cosigned, and return the time that it was given."""
        said = await self.submit(log.submission(old, size))
        assert (said.status, said.media_type) == (200, "text/plain; charset=utf-8")
        return checked_time(text_of(log.note(size)), said.text, self.witness.vkey)


@pytest.fixture
def asked(witness: WitnessProcess, session: aiohttp.ClientSession) -> Asked:
    return Asked(witness, session)


async def test_each_step_of_a_growing_log_is_cosigned(asked: Asked, log: Log) -> None:
    times = [await asked.cosigns(log, old, new) for old, new in ((0, 7), (7, 8), (8, 8), (8, 31))]

    assert times == sorted(times)
    held = await asked.newest(log)
    assert head_of(held.text) == (31, log.root(31))


async def test_an_empty_log_is_cosigned_and_grows(asked: Asked, log: Log) -> None:
    await asked.cosigns(log, 0, 0)
    await asked.cosigns(log, 0, 0)
    await asked.cosigns(log, 0, 3)

    assert (await asked.submit(log.submission(0, 0))).status == 409


async def test_an_empty_tree_has_one_root(asked: Asked, log: Log) -> None:
    text = f"{log.origin}\n0\n{b64encode(log.root(1)).decode()}\n"

    assert (await asked.submit(f"old 0\n\n{text}\n{log.signature(text)}")).status == 422
    assert (await asked.newest(log)).status == 404


async def test_a_log_that_is_out_of_step_is_told_the_size(asked: Asked, log: Log) -> None:
    first = await asked.submit(log.submission(5, 9))
    await asked.cosigns(log, 0, 9)
    behind = await asked.submit(log.submission(8, 20))
    started = await asked.submit(log.submission(0, 20))
    backwards = await asked.submit(log.submission(3, 5))

    assert [first.text, behind.text, started.text, backwards.text] == ["0\n", "9\n", "9\n", "9\n"]
    for said in (first, behind, started, backwards):
        assert (said.status, said.media_type) == (409, "text/x.tlog.size")
    assert head_of((await asked.newest(log)).text)[0] == 9


async def test_a_fork_is_refused_at_every_size(asked: Asked, log: Log) -> None:
    fork = log.fork(12).grow(20, "other")
    await asked.cosigns(log, 0, 20)

    same_size = await asked.submit(fork.submission(20, 20))
    longer = await asked.submit(fork.submission(20, 32))
    shorter = await asked.submit(fork.submission(12, 16))

    assert (same_size.status, same_size.media_type) == (409, "text/plain; charset=utf-8")
    assert (longer.status, shorter.status) == (422, 409)
    assert "—" not in same_size.text + longer.text + shorter.text
    await asked.cosigns(log, 20, 33)


async def test_a_proof_that_does_not_hold_is_refused(asked: Asked, log: Log) -> None:
    await asked.cosigns(log, 0, 11)
    right = log.submission(11, 29)
    head, _, note = right.partition("\n\n")
    lines = head.split("\n")
    for wrong in (
        [lines[0]],
        lines[:-1],
        [*lines, lines[-1]],
        [lines[0], *lines[:0:-1]],
        [lines[0], *lines[2:], lines[1]],
    ):
        said = await asked.submit("\n".join(wrong) + "\n\n" + note)
        assert said.status == 422
    with_proof = log.submission(11, 11).replace("\n\n", f"\n{lines[1]}\n\n", 1)
    assert (await asked.submit(with_proof)).status == 422
    assert (await asked.submit(right)).status == 200


async def test_a_first_checkpoint_takes_no_proof(asked: Asked, log: Log) -> None:
    line = b64encode(log.root(2)).decode()

    said = await asked.submit(log.submission(0, 9).replace("\n\n", f"\n{line}\n\n", 1))

    assert said.status == 422


HASH = b64encode(bytes(32)) + b"\n"
FORMS: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda _: b"",
    "no UTF-8": lambda body: body + b"\xff\n",
    "no old line": lambda body: body.removeprefix(b"old 0\n"),
    "another word": lambda body: body.replace(b"old", b"new", 1),
    "two spaces": lambda body: body.replace(b"old ", b"old  ", 1),
    "no size": lambda body: body.replace(b"old 0", b"old ", 1),
    "a negative size": lambda body: body.replace(b"old 0", b"old -0", 1),
    "a leading zero": lambda body: body.replace(b"old 0", b"old 00", 1),
    "a size in other digits": lambda body: body.replace(b"old 0", "old \u0660".encode(), 1),
    "a size without end": lambda body: body.replace(b"old 0", b"old " + b"9" * 30, 1),
    "an old size above the new one": lambda body: body.replace(b"old 0", b"old 10", 1),
    "carriage returns": lambda body: body.replace(b"\n", b"\r\n"),
    "a proof that is no base64": lambda body: body.replace(b"\n\n", b"\n!\n\n", 1),
    "a proof of short hashes": lambda body: body.replace(b"\n\n", b"\nAAAA\n\n", 1),
    "64 hashes": lambda body: body.replace(b"\n\n", b"\n" + HASH * 64 + b"\n", 1),
    "no empty line": lambda body: body.replace(b"\n\n", b"\n", 1),
    "no signature": lambda body: body.rpartition(b"\n\n")[0] + b"\n",
    "no last newline": lambda body: body[:-1],
    "a checkpoint of two lines": lambda body: body.replace(b"\n9\n", b"\n", 1),
    "a checkpoint with an empty line": lambda body: body.replace(b"\n9\n", b"\n9\n\n", 1),
    "a checkpoint's size with a zero before": lambda body: body.replace(b"\n9\n", b"\n09\n", 1),
    "a root in another encoding": lambda body: body.replace(b"=\n\n", b"\n\n", 1),
}


@pytest.mark.parametrize("form", list(FORMS))
async def test_a_submission_in_another_form_is_refused(asked: Asked, form: str) -> None:
    log = Log(NAMES[0], SEED).grow(9)

    said = await asked.submit(FORMS[form](log.submission(0).encode()))

    assert (said.status, said.media_type) == (400, "text/plain; charset=utf-8")
    assert said.text


async def test_a_log_that_is_not_watched_is_unknown(asked: Asked) -> None:
    stranger = Log("stranger.test/log", SEED).grow(3)

    assert (await asked.submit(stranger.submission(0))).status == 404
    assert (await asked.newest(stranger)).status == 404


async def test_only_the_logs_own_key_counts(asked: Asked, log: Log) -> None:
    others = Log(log.origin, OTHER_SEED, log.leaves)
    foreign = log.submission(0, 4).rpartition("\n\n")[0] + "\n\n" + others.note(4).split("\n\n")[1]
    changed = log.submission(0, 4).replace("\n4\n", "\n5\n", 1)
    good = log.submission(0, 4)
    bad_too = good + log.signature("another text\n")

    assert (await asked.submit(foreign)).status == 403
    assert (await asked.submit(changed)).status == 403
    assert (await asked.submit(bad_too)).status == 403
    assert (await asked.submit(good + foreign.rpartition("\n\n")[2])).status == 200


async def test_a_log_may_have_several_keys(asked: Asked) -> None:
    old_key = Log("log.test/two", SEED).grow(9)
    new_key = Log("log.test/two", OTHER_SEED, old_key.leaves)
    await asked.cosigns(old_key, 0, 3)
    await asked.cosigns(new_key, 3, 6)

    both = old_key.submission(6, 9) + new_key.signature(text_of(new_key.note(9)))
    said = await asked.submit(both)
    held = await asked.newest(old_key)

    assert said.status == 200
    names = [line.split(" ")[1] for line in held.text.rpartition("\n\n")[2].splitlines()]
    assert names == ["log.test/two", "log.test/two", "witness.test/w1"]


async def test_what_a_log_adds_to_its_checkpoint_is_cosigned_with_it(
    asked: Asked, log: Log
) -> None:
    note = log.note(9, extension="more of ours\n")

    said = await asked.submit(f"old 0\n\n{note}")

    assert said.status == 200
    checked_time(text_of(note), said.text, asked.witness.vkey)


async def test_monitors_get_what_was_cosigned_and_no_foreign_line(asked: Asked, log: Log) -> None:
    said = await asked.submit(log.submission(0, 9) + "— junk.test/x AAAAAAAA\n")
    held = await asked.newest(log)

    assert held == Said(200, log.note(9) + said.text)


async def test_another_implementation_verifies_what_monitors_get(asked: Asked, log: Log) -> None:
    await asked.cosigns(log, 0, 9)
    checkpoint = tlog_scales.tlog.Checkpoint.from_text((await asked.newest(log)).text)
    keys = [tlog_scales.signing.Vkey.from_string(key) for key in (log.vkey, asked.witness.vkey)]

    valid = tlog_scales.signing.VkeySet(*keys).verify(checkpoint.signatures, checkpoint)

    assert {key.name for key, _ in valid} == {log.origin, "witness.test/w1"}


async def test_published_requests_are_answered_as_published(asked: Asked) -> None:
    first, repeated = [await asked.submit(PUBLISHED["size_1"]) for _ in range(2)]
    five = await asked.submit(PUBLISHED["size_5"])
    three = await asked.submit(PUBLISHED["size_3"])

    assert (first.status, repeated) == (200, Said(409, "1\n", "text/x.tlog.size"))
    assert (five.status, three) == (200, Said(409, "5\n", "text/x.tlog.size"))
    text = PUBLISHED["size_5"].partition("\n\n")[2].partition("\n\n")[0] + "\n"
    checked_time(text, five.text, asked.witness.vkey)


async def test_published_requests_that_race_leave_one_history(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    with witnessing(tmp_path, PUBLISHED_LOG) as witness:
        assert (await submit(session, witness.url, PUBLISHED["size_1"])).status == 200
        bodies = [PUBLISHED["size_3"], PUBLISHED["size_5"]] * 8
        said = await asyncio.gather(*(submit(session, witness.url, body) for body in bodies))

        assert sorted(each.status for each in said) == [200] + [409] * 15
        won = next(each.text for each in said if each.status == 200)
        held = await newest(session, witness.url, PUBLISHED["origin"])
        assert held.text.endswith(won)
        lost = {each.text for each in said if each.status == 409}
        assert lost == {f"{head_of(held.text)[0]}\n"}


async def test_of_many_at_once_each_size_is_cosigned_from_one_size(asked: Asked, log: Log) -> None:
    await asked.cosigns(log, 0, 1)
    steps = [(old, new) for old in range(1, 8) for new in range(old + 1, 9)]

    said = await asyncio.gather(*(asked.submit(log.submission(*step)) for step in steps))

    cosigned = [step for step, each in zip(steps, said, strict=True) if each.status == 200]
    assert {each.status for each in said} == {200, 409}
    # The steps that were cosigned follow one another without a gap or an overlap.
    assert [old for old, _ in cosigned] == [1, *(new for _, new in cosigned[:-1])]


async def test_two_processes_on_one_record_still_sign_one_history(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    log = Log("log.test/shared", SEED).grow(20)
    fork = log.fork(3).grow(17, "other")
    with witnessing(tmp_path, option(log)) as one, witnessing(tmp_path, option(log)) as two:
        assert one.vkey == two.vkey
        assert (await submit(session, one.url, log.submission(0, 3))).status == 200
        steps = [
            (witness.url, each, new)
            for new in range(4, 9)
            for witness in (one, two)
            for each in (log, fork)
        ]
        said = await asyncio.gather(
            *(submit(session, url, each.submission(3, new)) for url, each, new in steps)
        )
        held = [await newest(session, witness.url, log.origin) for witness in (one, two)]

    assert sorted(each.status for each in said) == [200] + [409] * 19
    [(_, winner, size)] = [
        step for step, each in zip(steps, said, strict=True) if each.status == 200
    ]
    assert held[0] == held[1]
    assert head_of(held[0].text) == (size, winner.root(size))


async def test_a_cosignature_is_on_the_disk_before_it_leaves(tmp_path: Path) -> None:
    with opened(config_in(tmp_path)) as witness:
        settings = [
            witness._state._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous")
        ]
    assert settings == ["wal", 3]


async def test_a_body_has_a_limit(asked: Asked) -> None:
    assert (await asked.submit(b"x" * 65_537)).status == 413
    assert (await asked.submit(b"x" * 65_536)).status == 400


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/add-checkpoint", 405),
        ("POST", "/", 404),
        ("GET", "/", 404),
        ("GET", f"/{'0' * 64}/checkpoint", 404),
        ("GET", f"/{'A' * 64}/checkpoint", 404),
        ("GET", f"/{'0' * 63}/checkpoint", 404),
        ("POST", f"/{'0' * 64}/checkpoint", 405),
    ],
)
async def test_what_the_protocol_does_not_have_is_not_there(
    asked: Asked, method: str, path: str, status: int
) -> None:
    async with asked.session.request(method, asked.witness.url + path) as response:
        assert response.status == status


class Clock:
    """Unix milliseconds, set by hand."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_999

    def __call__(self) -> UnixMs:
        return UnixMs(self.now)


async def test_the_time_is_the_clocks_and_never_goes_back(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    clock, log = Clock(), Log("log.test/clock", SEED).grow(9)
    config = WitnessConfig("", tmp_path / "w.db", f"file:{tmp_path / 'w.json'}", [option(log)])
    with opened(config) as witness:
        async with TestServer(witness_app(witness, clock)) as server:
            url = str(server.make_url("")).rstrip("/")
            times = []
            for size, now in (
                (3, 1_700_000_000_999),
                (4, 1_600_000_000_000),
                (5, 1_700_000_001_000),
            ):
                clock.now = now
                said = await submit(
                    session, url, log.submission(max(0, size - 1) if size > 3 else 0, size)
                )
                times.append(checked_time(text_of(log.note(size)), said.text, witness.vkey))

    assert times == [1_700_000_000, 1_700_000_000, 1_700_000_001]


async def test_a_record_that_cannot_be_written_cosigns_nothing(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    log = Log("log.test/full", SEED).grow(9)
    config = WitnessConfig("", tmp_path / "w.db", f"file:{tmp_path / 'w.json'}", [option(log)])
    with opened(config) as witness:
        async with TestServer(witness_app(witness, Clock())) as server:
            url = str(server.make_url("")).rstrip("/")
            assert (await submit(session, url, log.submission(0, 3))).status == 200
            witness._state._connection.execute("PRAGMA max_page_count=1")
            witness._state._connection.execute("PRAGMA query_only=ON")
            failed = await submit(session, url, log.submission(3, 5))
            assert (failed.status, "—" in failed.text) == (503, False)
            witness._state._connection.execute("PRAGMA query_only=OFF")
            held = await newest(session, url, log.origin)
            again = await submit(session, url, log.submission(3, 5))

    assert head_of(held.text)[0] == 3
    assert again.status == 200


def told(folder: Path, *options: str, log: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "scripts.cli", "witness", "--listen", "127.0.0.1:0"),
            *("--state", str(folder / "w.db"), "--key", f"file:{folder / 'w.json'}"),
            *("--log", log, *options),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={k: v for k, v in os.environ.items() if not k.startswith("LEDGER_")},
    )


async def test_the_command_says_where_it_listens_and_its_key_and_needs_its_record(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    log = Log("log.test/cli", SEED).grow(9)
    with told(tmp_path, "--name", "witness.test/cli", log=option(log)) as process:
        assert process.stdout is not None
        listening, key = [process.stdout.readline().split() for _ in range(2)]
        assert (listening[:2], key[0]) == (["listening", "on"], "vkey")
        assert key[1].startswith("witness.test/cli+")
        said = await submit(session, listening[2], log.submission(0))
        assert checked_time(text_of(log.note()), said.text, key[1])
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert (tmp_path / "w.json").stat().st_mode & 0o777 == 0o600

    (tmp_path / "w.db").unlink()
    with told(tmp_path, log=option(log)) as process:
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, output) == (2, "")
        assert errors.startswith("MISCONFIGURED: ")
        assert "may cosign a second history" in errors


def config_in(folder: Path, **changes: object) -> WitnessConfig:
    values: dict[str, object] = {
        "listen": "127.0.0.1:0",
        "state": folder / "w.db",
        "key": f"file:{folder / 'w.json'}",
        "logs": [option(Log("log.test/x", SEED))],
    }
    return WitnessConfig(**{**values, **changes})  # type: ignore[arg-type]  # a test's own


def refusal(config: WitnessConfig) -> str:
    with pytest.raises(Misconfigured) as refused, opened(config):
        pass
    return refused.value.message


async def test_a_key_without_its_record_does_not_start_unless_it_never_cosigned(
    tmp_path: Path,
) -> None:
    with opened(config_in(tmp_path)) as witness:
        key = witness.vkey
    (tmp_path / "w.db").unlink()

    assert "may cosign a second history" in refusal(config_in(tmp_path))
    with opened(config_in(tmp_path, new_state=True)) as witness:
        assert witness.vkey == key
    with opened(config_in(tmp_path)) as witness:
        assert witness.vkey == key


async def test_a_record_that_was_used_does_not_get_a_new_key(tmp_path: Path) -> None:
    log = Log("log.test/x", SEED).grow(3)
    with opened(config_in(tmp_path)) as witness:
        witness.add_checkpoint(log.submission(0).encode(), 1)
    (tmp_path / "w.json").unlink()

    assert "its record" in refusal(config_in(tmp_path))


async def test_a_start_that_crashed_before_the_key_was_made_goes_on(tmp_path: Path) -> None:
    (tmp_path / "w.db").touch()

    with opened(config_in(tmp_path)) as witness:
        assert witness.vkey.startswith("ivxp-ledger/witness/")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"logs": []}, "one log at least"),
        ({"logs": ["log.test/x"]}, "a vkey is"),
        ({"logs": ["=" + Log("log.test/x", SEED).vkey]}, "an origin and a vkey"),
        ({"logs": ["log.test/x=log.test/x+00000000+AAAA"]}, "no Ed25519 key"),
        ({"name": "a b"}, "a key name is"),
        ({"key": "nothing"}, "a key source is"),
        ({"key": "env:NO_SUCH_VARIABLE", "new_state": True}, "32-byte key"),
        ({"state": Path("/proc/no/such/folder/w.db")}, "cannot be used"),
        ({"state": Path(__file__)}, "cannot be opened as a witness's state"),
    ],
)
async def test_what_a_witness_cannot_run_with_is_said(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    assert words in refusal(config_in(tmp_path, **changes))


async def test_an_origin_need_not_be_the_name_of_its_key() -> None:
    key = vkey_of("named", bytes(32))

    assert list(parse_logs([f"an origin: with spaces/and?more={key}"])) == [
        "an origin: with spaces/and?more"
    ]
