"""The audit from outside: over HTTP, beside a real chain, by an auditor and by a party."""

import asyncio
import json
import shutil
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import pytest_asyncio

from api.ivxp.parties import signed_text
from api.keys import LEDGER
from ledger.audit_rpc import Nodes
from ledger.batch import Task
from ledger.checkpoint import LogKey
from ledger.decision import decided
from ledger.errors import ChainUnavailable
from ledger.log_events import KeyAdded
from ledger.payment_events import PaymentVerified
from ledger.signing import Signer, load_secret
from ledger.values import LOG_STREAM
from scripts import audit_replay
from scripts.demo_forger import Provider, history_of, unprotected
from scripts.devchain import DevChain
from tests.contract.callers import AUDITOR, PARTY, ROLES, Caller, signed_in
from tests.contract.kit import Service, paid_order, payer, serving
from tests.support.chain import account_named

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVENTS = 300
"""More than one level-0 tile."""
SILENT = "http://127.0.0.1:1"


@dataclass
class Played:
    """A running service with one order that was paid on the chain and confirmed."""

    service: Service
    order_id: str

    @property
    def data_dir(self) -> Path:
        return self.service.folder / "data"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def played(
    chain: DevChain, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Played]:
    async with serving(tmp_path_factory.mktemp("service"), chain, **ROLES) as service:
        buyer = payer(chain, service, PARTY)
        order_id = await paid_order(service, chain, buyer)
        await service.status_when(buyer, order_id, {"delivered"})
        (await buyer.confirm(order_id, "hello")).require(200)
        while service.position < EVENTS:
            await service.quote(buyer)
        yield Played(service, order_id)


async def audit(*arguments: object) -> int:
    return await asyncio.to_thread(audit_replay.main, [str(a) for a in arguments])


async def token_of(played: Played, name: str) -> str:
    return (await signed_in(played.service, name)).token


def report_in(text: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(text)
    return found


# A live service


async def test_an_auditor_replays_a_live_service(
    played: Played, chain: DevChain, capsys: pytest.CaptureFixture[str]
) -> None:
    token = await token_of(played, AUDITOR)

    code = await audit(played.service.url, "--token", token, "--rpc", chain.rpc_url, "--json")

    said = report_in(capsys.readouterr().out)
    assert (code, said["findings"], said["unknown"]) == (0, [], [])
    assert said["size"] == played.service.position
    checked = said["checked"]
    assert isinstance(checked, dict)
    unmade = {check for check, made in checked.items() if not made}
    assert unmade == {"C15", "C22", "C23", "C24", "C25", "C26"}
    assert "C15, C27 not checked" in str(said["notes"])
    assert "frontier, views" in str(said["notes"])


async def test_a_buyer_with_one_event_compares_a_live_service(
    played: Played, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = await token_of(played, AUDITOR)
    last = played.service.app[LEDGER].read_order(played.order_id)[-1]
    held = tmp_path / "held.json"
    held.write_bytes(last.signed.entry)
    assert await audit(played.service.url, "--token", token, "--held", held) == 0

    # Another confirmation of that order, signed with the provider's own wallet.
    forged = Provider("x", played.service.app[LEDGER].signer, LogKey("x", b"\x01" * 32))
    other = json.loads(last.signed.entry)
    other["event"]["salt"] = "00" * 16
    signed = forged.wallet.sign(b"IVXP-LEDGER-EVENT/1\n" + _encoded(other["event"]))
    other["sig"]["value"] = signed
    held.write_bytes(_encoded(other))

    assert await audit(played.service.url, "--token", token, "--held", held) == 1
    out = capsys.readouterr().out
    assert f"FORK at position {last.position}" in out
    assert signed in out


def _encoded(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


async def test_entries_are_not_for_everybody(
    played: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await audit(played.service.url) == 2
    assert await audit(played.service.url, "--token", await token_of(played, PARTY)) == 2
    assert await audit(SILENT) == 2

    said = capsys.readouterr().err.splitlines()
    assert ["refused with" in line for line in said] == [True, True, False]
    assert all(line.startswith("audit: could not run") for line in said)


async def test_a_party_audits_its_own_order(
    played: Played, chain: DevChain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = await token_of(played, PARTY)
    events = played.service.app[LEDGER].read_order(played.order_id)
    held = tmp_path / "held.json"
    held.write_bytes(events[0].signed.entry)
    order = (played.service.url, "--order", played.order_id, "--token", token)

    code = await audit(*order, "--held", held, "--rpc", chain.rpc_url, "--json")

    said = report_in(capsys.readouterr().out)
    assert (code, said["findings"], said["unknown"]) == (0, [], [])
    assert said["size"] == len(events)
    checked = said["checked"]
    assert isinstance(checked, dict)
    made = {check for check, times in checked.items() if times}
    wanted = {"C01", "C02", "C03", "C04", "C06", "C07", "C08", "C09", "C10", "C12", "C13"}
    assert made >= wanted | {"C16", "C18", "C20", "C24", "C25", "C26"}


async def test_a_key_that_a_stranger_added_is_found_with_one_order_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stranger = account_named("a stranger")
    address, secret = stranger.address.lower(), bytes(stranger.key)
    async with serving(tmp_path, **ROLES) as service:
        ledger = service.app[LEDGER]
        order_id = await service.quote(service.buyer(PARTY))
        text = f"Add key: {address} | Log: {ledger.origin} | Timestamp: 2026-01-01T12:00:00Z"
        possession = signed_text(text, Caller(service, "a stranger").sign(text), None)
        event = KeyAdded(purpose="wallet", key=address, possession=possession)
        ours, ledger._writer._signer = ledger._writer._signer, Signer(secret)
        task = Task(LOG_STREAM, lambda _state, _claimed, _at: decided(event), ledger.clock())
        await ledger._writer.submit(task)
        ledger._writer._signer = ours
        await service.quote(service.buyer(PARTY))
        token = (await signed_in(service, PARTY)).token

        code = await audit(service.url, "--order", order_id, "--token", token, "--json")

    # The service in this process writes its log there as well.
    said = capsys.readouterr().out
    findings = report_in(said[said.index("\n{") :])["findings"]
    assert isinstance(findings, list)
    assert code == 1
    assert [(each["check"], each["message"]) for each in findings] == [
        ("C04", f"{address} may not sign at this position")
    ]


async def test_everything_that_the_service_hands_out_can_be_held(
    played: Played, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = {"Authorization": f"Bearer {await token_of(played, PARTY)}"}
    order, size = f"/ledger/orders/{played.order_id}", played.service.position
    other = {"Ledger-Head": f"3 {'A' * 43}="}
    kept = {
        "checkpoint": ("/ledger/checkpoint", {}),
        "proof": (f"{order}/events/1/proof", {}),
        "consistency": ("/ledger/proof/consistency?from=3", {}),
        "empty consistency": (f"/ledger/proof/consistency?from={size}", {}),
        "order head": (f"{order}/head", {}),
        "order": (f"{order}/events", token),
        "keys": ("/ledger/keys", {}),
        "fork": ("/ivxp/catalog", other),
        "ahead": ("/ivxp/catalog", {"Ledger-Head": f"99999 {'A' * 43}="}),
    }
    held: list[object] = []
    head = ""
    for name, (path, headers) in kept.items():
        url = played.service.url + path
        async with played.service.session.get(url, headers=headers) as response:
            (tmp_path / name).write_bytes(await response.read())
            head = response.headers.get("Ledger-Head", head)
        held += ["--held", tmp_path / name]
    for name, text in (("header", head), ("named header", f"Ledger-Head: {head}\n")):
        (tmp_path / name).write_text(text)
        held += ["--held", tmp_path / name]

    code = await audit(played.data_dir, *held, "--no-views", "--json")

    said = report_in(capsys.readouterr().out)
    assert (code, said["findings"], said["unknown"]) == (0, [], [])

    # And each of them counts: a log that is another by one event contradicts all of them.
    data_dir = tmp_path / "other" / "data"
    shutil.copytree(played.data_dir / "keys", data_dir / "keys")
    _rewritten_payment(played, data_dir)
    for name in [name for name in kept if name not in ("keys", "fork", "ahead")]:
        assert await audit(data_dir, "--no-views", "--held", tmp_path / name) == 1, name


async def test_nobody_audits_an_order_that_is_not_there(
    played: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    token = await token_of(played, PARTY)
    unknown = "ivxp-00000000-0000-4000-8000-000000000000"

    assert await audit(played.service.url, "--order", unknown, "--token", token) == 2
    assert await audit(played.data_dir, "--order", played.order_id) == 2
    assert "could not run" in capsys.readouterr().err


# The chain


async def test_the_money_in_a_folder_is_found_on_the_chain(
    played: Played, chain: DevChain, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await audit(played.data_dir, "--rpc", chain.rpc_url, "--no-views", "--json") == 0
    with_chain = report_in(capsys.readouterr().out)
    assert await audit(played.data_dir, "--no-views", "--json") == 0
    without = report_in(capsys.readouterr().out)

    assert with_chain["unknown"] == []
    for check in ("C11", "C13"):
        assert with_chain["checked"][check] > without["checked"][check], check  # type: ignore[index]


async def test_a_silent_or_contradicting_node_is_unknown_and_no_finding(
    played: Played, chain: DevChain, capsys: pytest.CaptureFixture[str]
) -> None:
    rpc = ("--rpc", chain.rpc_url, "--rpc", SILENT)

    assert await audit(played.data_dir, *rpc, "--no-views") == 0

    out = capsys.readouterr().out
    assert "unknown: C13" in out
    assert "could not check" in out
    assert out.splitlines()[-1] == "audit: ok"


async def test_an_invented_payment_is_a_finding_of_the_chain(
    played: Played, chain: DevChain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data_dir = tmp_path / "data"
    shutil.copytree(played.data_dir / "keys", data_dir / "keys")
    _rewritten_payment(played, data_dir)

    assert await audit(data_dir, "--no-views") == 0
    assert await audit(data_dir, "--no-views", "--rpc", chain.rpc_url) == 1

    out = capsys.readouterr().out
    assert "holds no such transaction" in out
    assert out.splitlines()[-1] == "audit: 1 finding"


def _rewritten_payment(played: Played, data_dir: Path) -> None:
    """Let the ledger's payment name a transaction that never was, with the provider's keys."""
    source = sqlite3.connect(played.data_dir / "ledger.db")
    db = sqlite3.connect(data_dir / "ledger.db")
    source.backup(db)
    source.close()
    keys = data_dir / "keys"
    log_seed = load_secret(f"file:{keys / 'log.json'}")
    wallet = Signer(load_secret(f"file:{keys / 'provider.json'}"))
    origin = played.service.app[LEDGER].origin
    with unprotected(db):
        history = history_of(db)
        fake = "0x" + "ee" * 32
        for at, told in enumerate(history):
            event = told.event
            if isinstance(event, PaymentVerified):
                moved = tuple(t.model_copy(update={"tx_hash": fake}) for t in event.transfers)
                history[at] = replace(told, event=event.model_copy(update={"transfers": moved}))
            elif getattr(event, "notice", None) is not None:
                # The client's own text names the real one: a forger has to leave it out.
                fields = {"notice": None, "tx_hash": None, "reason": "worker", "nonce": None}
                history[at] = replace(told, event=event.model_copy(update=fields))
        note = Provider(origin, wallet, LogKey(origin, log_seed)).rewrite(db, history)
    db.close()
    audit_replay.default_guard(data_dir).write_bytes(note)


async def test_an_export_made_twice_is_the_same(
    played: Played, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (played.data_dir, "--no-views", "--export", played.order_id, "--json")

    assert await audit(*arguments) == 0
    assert report_in(capsys.readouterr().out)["checked"]["C28"] == 1  # type: ignore[index]

    without_keys = tmp_path / "data"
    shutil.copytree(played.data_dir, without_keys, ignore=shutil.ignore_patterns("keys"))
    guard = audit_replay.default_guard(played.data_dir)
    assert await audit(without_keys, *arguments[1:], "--guard", guard) == 0
    [unknown] = report_in(capsys.readouterr().out)["unknown"]  # type: ignore[misc]
    assert unknown["check"] == "C28"


async def test_nodes_that_disagree_have_said_nothing() -> None:
    def node(number: str) -> object:
        return lambda calls: [number for _ in calls]

    nodes = Nodes([("one", node("0x1")), ("two", node("0x2"))])  # type: ignore[list-item]

    with pytest.raises(ChainUnavailable, match="disagree"):
        nodes.ask([("eth_chainId", [])], lambda results: results[0])


async def test_a_node_is_an_http_url() -> None:
    with pytest.raises(ValueError, match="http"):
        Nodes.of(["file:///etc/passwd"])
