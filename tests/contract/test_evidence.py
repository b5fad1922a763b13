"""The evidence bundle as parties, auditors and scripts get it from a running service."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from multidict import CIMultiDictProxy

import api.log.evidence
from api.keys import LEDGER
from api.witnesses import WITNESSES
from ledger.cosignature import Cosigner
from ledger.evidence import Bundle, EvidenceStore, Wanted
from ledger.evidence_verify.bags import Files, read_zip
from ledger.evidence_verify.checks import Checks
from ledger.evidence_verify.keys import Roots
from ledger.signing import Signer
from scripts.devchain import DevChain
from scripts.export_evidence import main
from tests.contract.callers import AUDITOR, OPERATOR, PARTY, ROLES, WORKER, Caller, signed_in
from tests.contract.kit import (
    Service,
    delivered_status,
    paid_order,
    payer,
    serving,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT: Final = str(Path(__file__).resolve().parents[2])
HOSTILE: Final = (
    '<script src="https://evil.example/x.js"></script>\u202e<img src=x onerror=alert(1)>'
    "\n../../../etc/passwd {} {order} %s"
)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service(
    chain: DevChain, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    async with serving(tmp_path_factory.mktemp("service"), chain, **ROLES) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def order_id(service: Service, chain: DevChain) -> str:
    """Return an order that was paid, delivered and confirmed, with hostile words."""
    buyer = payer(chain, service, PARTY)
    found = await paid_order(service, chain, buyer, text=HOSTILE)
    await delivered_status(buyer, found)
    ledger = service.app[LEDGER]
    order = await ledger.order(found)
    assert order is not None
    assert order.deliverable is not None
    row = ledger.store.content(order.deliverable.content_id)
    assert row is not None
    (await buyer.confirm(found, row.value.decode())).require(200)
    await service.recorded(found, 5)
    return found


async def fetched(
    service: Service, name: str | None, path: str, method: str = "GET", **headers: str
) -> tuple[int, bytes, CIMultiDictProxy[str]]:
    """Ask for a bundle as a wallet that signed in, or as nobody."""
    if name is not None:
        headers["Authorization"] = f"Bearer {(await signed_in(service, name)).token}"
    sent = {key.replace("_", "-"): value for key, value in headers.items()}
    async with service.session.request(method, service.url + path, headers=sent) as response:
        return response.status, await response.read(), response.headers


def path_of(order_id: str, query: str = "") -> str:
    return f"/ledger/orders/{order_id}/evidence{query}"


def roots(service: Service) -> Roots:
    """Return the keys that a client learned when it first dealt with this provider."""
    ledger, found = service.app[LEDGER], Roots()
    found.origin, found.log_keys = ledger.origin, [ledger.log_key.vkey]
    found.wallets = [ledger.signer.address]
    return found


def verified(service: Service, data: bytes) -> Files:
    """Return the files of a bundle that verifies."""
    checks = Checks(data, roots(service))
    checks.run()
    assert [(o.name, o.text) for o in checks.outcomes if not o.holds] == []
    return read_zip(data)[1]


def error_of(data: bytes) -> str:
    return str(json.loads(data)["error"])


def only_file(folder: Path) -> tuple[str, bytes, int]:
    """Return name, bytes and mode of the one file in a folder."""
    [path] = folder.iterdir()
    return path.name, path.read_bytes(), path.stat().st_mode & 0o777


async def exported(folder: Path, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """Run the export script as a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "scripts.export_evidence",
        *arguments,
        env={"PYTHONPATH": ROOT, **environment},
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("name", [PARTY, OPERATOR, AUDITOR])
async def test_the_client_the_operator_and_auditors_get_a_bundle_that_verifies(
    service: Service, order_id: str, name: str
) -> None:
    status, data, headers = await fetched(service, name, path_of(order_id))

    files = verified(service, data)
    case = json.loads(files["data/case.json"])
    base, _ = read_zip(data)
    assert (status, case["status"]) == (200, "confirmed")
    assert headers["Content-Type"] == "application/zip"
    assert headers["Content-Disposition"] == f'attachment; filename="{base}.zip"'
    assert headers["Content-Length"] == str(len(data))
    assert headers["Cache-Control"] == "private, no-cache"


async def test_an_arbiter_gets_the_bundle_of_its_order_and_no_other(
    service: Service, order_id: str
) -> None:
    client = await signed_in(service, PARTY)
    other = await service.quote(service.buyer(PARTY))
    given = await client.post(f"/v1/orders/{order_id}/arbiter-token", {})
    token = {"Authorization": f"Bearer {given.body['token']}"}

    mine = await fetched(service, None, path_of(order_id), **token)
    others = await fetched(service, None, path_of(other), **token)

    assert (mine[0], others[0]) == (200, 404)
    verified(service, mine[1])


@pytest.mark.parametrize("by", ["its id", "its giver's wallet"])
async def test_who_gave_an_arbiter_a_token_takes_it_back(
    service: Service, order_id: str, by: str
) -> None:
    client, other = await signed_in(service, PARTY), await signed_in(service, "somebody")
    given = await client.post(f"/v1/orders/{order_id}/arbiter-token", {})
    token, token_id = given.body["token"], given.body["token_id"]
    arbiter = Caller(service, "arbiter", token)
    body = {"token_id": token_id} if by == "its id" else {"wallet": client.address}
    before = await arbiter.get(path_of(order_id))
    refused = await other.post("/v1/auth/revoke", {"token_id": token_id})

    taken = await client.post("/v1/auth/revoke", body)

    after = await arbiter.get(path_of(order_id))
    assert (before.status, refused.outcome, taken.status) == (200, (403, "FORBIDDEN"), 200)
    assert after.outcome == (401, "UNAUTHORIZED")


async def test_strangers_workers_and_nobody_get_none(service: Service, order_id: str) -> None:
    for name in ("somebody", WORKER):
        status, data, _ = await fetched(service, name, path_of(order_id))
        assert (status, error_of(data)) == (404, "ORDER_NOT_FOUND")
    status, data, _ = await fetched(service, None, path_of(order_id))
    assert (status, error_of(data)) == (401, "UNAUTHORIZED")
    status, data, _ = await fetched(service, OPERATOR, path_of("ivxp-none"))
    assert (status, error_of(data)) == (404, "ORDER_NOT_FOUND")


async def test_hostile_words_stay_words(service: Service, order_id: str) -> None:
    _, data, _ = await fetched(service, PARTY, path_of(order_id))
    files = verified(service, data)
    page = files["data/report.html"].decode()

    assert files["data/content/0001-description.txt"].decode() == HOSTILE
    assert "<script" not in page
    assert "<img" not in page
    assert "\u202e" not in page
    assert "&lt;script src=&quot;https://evil.example/x.js&quot;&gt;" in page
    assert all(name.isascii() and ".." not in name for name in files)


async def test_the_same_question_gets_the_same_bytes(service: Service, order_id: str) -> None:
    size = service.position
    asked = path_of(order_id, f"?size={size}")
    _, first, headers = await fetched(service, PARTY, asked)
    for _ in range(3):
        await service.quote(service.buyer("somebody else"))

    _, again, _ = await fetched(service, AUDITOR, asked)
    unchanged = await fetched(service, PARTY, asked, If_None_Match=headers["ETag"])
    _, newest, _ = await fetched(service, PARTY, path_of(order_id))

    assert first == again
    assert read_zip(first)[0] == f"evidence-{order_id}-{size}"
    assert (unchanged[0], unchanged[1], unchanged[2]["ETag"]) == (304, b"", headers["ETag"])
    assert newest != first
    verified(service, newest)


async def test_a_restart_changes_no_byte(chain: DevChain, tmp_path: Path) -> None:
    async with serving(tmp_path, chain, **ROLES) as running:
        order = await running.quote(running.buyer(PARTY))
        asked = path_of(order, f"?size={running.position}")
        _, first, _ = await fetched(running, PARTY, asked)
    async with serving(tmp_path, chain, **ROLES) as running:
        await running.quote(running.buyer(PARTY))
        _, second, _ = await fetched(running, PARTY, asked)
        verified(running, second)

    assert first == second


async def test_head_says_what_get_would_send(service: Service, order_id: str) -> None:
    asked = path_of(order_id, f"?size={service.position}")
    _, data, headers = await fetched(service, PARTY, asked)
    status, body, told = await fetched(service, PARTY, asked, method="HEAD")

    assert (status, body) == (200, b"")
    assert (told["ETag"], told["Content-Length"]) == (headers["ETag"], str(len(data)))


async def test_an_earlier_size_tells_the_story_up_to_there(service: Service, order_id: str) -> None:
    events = service.app[LEDGER].read_order(order_id)
    for placed in (events[0], events[2], events[-1]):
        asked = path_of(order_id, f"?size={placed.position}")
        status, data, _ = await fetched(service, PARTY, asked)
        case = json.loads(verified(service, data)["data/case.json"])
        assert (status, len(case["timeline"])) == (200, placed.signed.seq)

    before = path_of(order_id, f"?size={events[0].position - 1}")
    status, data, _ = await fetched(service, PARTY, before)
    assert (status, error_of(data)) == (404, "ORDER_NOT_FOUND")


@pytest.mark.parametrize(
    "query",
    [
        "?size=-1",
        "?size=x",
        "?size=",
        "?size=999999999999",
        "?size=1.0",
        "?redact=price",
        "?redact=*",
    ],
)
async def test_other_questions_are_refused(service: Service, order_id: str, query: str) -> None:
    status, data, _ = await fetched(service, PARTY, path_of(order_id, query))

    assert (status, error_of(data)) == (400, "INVALID_REQUEST")


async def test_what_is_left_out_is_named(service: Service, order_id: str) -> None:
    query = "?redact=description,deliverable"
    _, data, _ = await fetched(service, PARTY, path_of(order_id, query))
    files = verified(service, data)

    assert {each["field"] for each in json.loads(files["data/redactions.json"])} == {
        "description",
        "deliverable",
    }
    assert b"evil.example" not in data


async def test_a_bundle_is_made_beside_the_event_loop(
    service: Service, order_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    make = api.log.evidence.assemble

    def noted(store: EvidenceStore, signer: Signer, wanted: Wanted) -> Bundle:
        threads.append(threading.get_ident())
        return make(store, signer, wanted)

    monkeypatch.setattr(api.log.evidence, "assemble", noted)
    await fetched(service, PARTY, path_of(order_id))

    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


async def test_a_cosigned_head_that_holds_the_whole_order_is_taken(
    service: Service, order_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, witness = service.app[LEDGER].head, Cosigner("witness.example/one", b"\x05" * 32)
    text = head.note.partition("\n\n")[0] + "\n"
    cosigned = head.note + witness.cosign(text, 1_767_268_800).line()
    monkeypatch.setattr(service.app[WITNESSES], "checkpoint", lambda _head: cosigned)
    later = await service.quote(service.buyer(PARTY))

    _, held, _ = await fetched(service, PARTY, path_of(order_id))
    _, not_held, _ = await fetched(service, PARTY, path_of(later))
    trusted = roots(service)
    trusted.witnesses = [witness.key.vkey()]
    checks = Checks(held, trusted)
    checks.run()

    assert checks.ok
    assert read_zip(held)[1]["data/checkpoints/final.note"].decode() == cosigned
    assert read_zip(not_held)[1]["data/checkpoints/final.note"].decode() != cosigned


# The script


async def test_the_script_makes_the_same_bytes_while_the_service_runs(
    service: Service, order_id: str, tmp_path: Path
) -> None:
    size = service.position
    _, data, _ = await fetched(service, PARTY, path_of(order_id, f"?size={size}"))
    folder = str(service.folder / "data")

    code, said, errors = await exported(tmp_path, folder, order_id, "--size", str(size))

    assert (code, errors) == (0, "")
    assert only_file(tmp_path) == (f"evidence-{order_id}-{size}.zip", data, 0o600)
    assert service.app[LEDGER].signer.address in said


async def test_the_script_takes_the_newest_head_that_left_the_service(
    service: Service, order_id: str, tmp_path: Path
) -> None:
    out = tmp_path / "bundle.zip"
    folder = str(service.folder / "data")
    code, _, errors = await exported(
        tmp_path, folder, order_id, "--out", str(out), "--redact", "deliverable"
    )

    files = verified(service, out.read_bytes())
    assert (code, errors) == (0, "")
    assert json.loads(files["data/case.json"])["status"] == "confirmed"
    assert "data/deliverable/content.bin" not in files


async def test_the_script_fetches_from_a_live_service(
    service: Service, order_id: str, tmp_path: Path
) -> None:
    size = service.position
    _, data, _ = await fetched(service, PARTY, path_of(order_id, f"?size={size}"))
    token = str((await signed_in(service, PARTY)).token)
    arguments = (service.url, order_id, "--size", str(size))

    code, _, errors = await exported(tmp_path, *arguments, LEDGER_TOKEN=token)
    without = await exported(tmp_path, *arguments)
    foreign = await exported(
        tmp_path, *arguments, LEDGER_TOKEN=str((await signed_in(service, "somebody")).token)
    )

    assert (code, errors) == (0, "")
    assert (tmp_path / f"evidence-{order_id}-{size}.zip").read_bytes() == data
    assert (without[0], "LEDGER_TOKEN" in without[2]) == (2, True)
    assert (foreign[0], "no such order" in foreign[2]) == (2, True)


async def test_the_script_says_what_is_in_the_way(
    service: Service, order_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(service.folder / "data")
    for arguments, words in (
        ((str(tmp_path), order_id), "guard is missing"),
        ((folder, "ivxp-none"), "no order has this id"),
        ((folder, order_id, "--size", "99999999"), "newest signed head"),
        ((folder, order_id, "--redact", "price"), "comma list"),
        ((folder, order_id, "--guard", str(tmp_path / "none")), "missing"),
        ((folder, order_id, "--signer", f"file:{tmp_path}/none.json"), "is missing"),
        ((folder, order_id, "--out", str(tmp_path / "no" / "folder.zip")), "No such file"),
    ):
        code = await asyncio.to_thread(main, arguments)
        errors = capsys.readouterr().err
        assert (code, words in errors) == (2, True), errors
