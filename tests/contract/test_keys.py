"""The life of keys: rotation, revocation of a stolen wallet, the end of a log and its successor."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from api.keys import LEDGER
from ledger.audit_keys import Trust
from ledger.checkpoint import LogKey
from ledger.errors import Misconfigured
from ledger.evidence_source import WITNESSED_NOTE, Folder, export
from ledger.values import iso_of
from scripts.audit_replay import replay
from scripts.devchain import DevChain
from tests.contract.callers import OPERATOR, PARTY, ROLES, Answer, Caller, signed_in
from tests.contract.kit import Service, serving
from tests.support.chain import account_named

pytestmark = pytest.mark.asyncio(loop_scope="module")

RECOVERY = "the recovery key"
NEW_WALLET = "the new wallet"


def key_file(folder: Path, name: str, secret: bytes) -> str:
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"secret": "0x" + secret.hex()}))
    path.chmod(0o600)
    return f"file:{path}"


@asynccontextmanager
async def opened(folder: Path, chain: DevChain, **changes: Any) -> AsyncIterator[Service]:  # noqa: ANN401 - settings of every type
    settings = {"recovery_address": account_named(RECOVERY).address, **ROLES, **changes}
    async with serving(folder, chain, **settings) as service:
        yield service


def now(service: Service) -> str:
    return iso_of(service.app[LEDGER].clock())


def origin(service: Service) -> str:
    return service.app[LEDGER].origin


async def signed(service: Service, path: str, text: str, by: str, **members: object) -> Answer:
    operator = await signed_in(service, OPERATOR)
    signature = Caller(service, by).sign(text)
    body = {**members, "signed_message": text, "signature": signature}
    return await operator.post(path, body)


async def add_wallet(service: Service, name: str = NEW_WALLET, by: str = NEW_WALLET) -> Answer:
    address = account_named(name).address.lower()
    text = f"Add key: {address} | Log: {origin(service)} | Timestamp: {now(service)}"
    return await signed(service, "/v1/log/keys", text, by, purpose="wallet", key=address)


async def revoke(service: Service, key: str, last: int, by: str = RECOVERY) -> Answer:
    text = (
        f"Revoke key: {key} | Log: {origin(service)} | Last position: {last}"
        f" | Timestamp: {now(service)}"
    )
    return await signed(
        service,
        "/v1/log/keys/revoke",
        text,
        by,
        purpose="wallet",
        key=key,
        last_position=last,
    )


async def close(service: Service, by: str = RECOVERY) -> Answer:
    text = f"Close log: {origin(service)} | Reason: moved on | Timestamp: {now(service)}"
    return await signed(service, "/v1/log/close", text, by)


def audited(folder: Path) -> None:
    data = folder / "data"
    report = replay(
        data, guard=folder / "data.guard", trust=Trust(None, None), views=data / "views.db"
    )
    assert report.ok, report.findings


async def test_a_wallet_is_rotated_and_the_old_one_revoked(tmp_path: Path, chain: DevChain) -> None:
    new = key_file(tmp_path, "new", bytes(account_named(NEW_WALLET).key))
    async with opened(tmp_path, chain) as service:
        old = service.app[LEDGER].signer.address
        await service.quote(service.buyer(PARTY))
        unproven = await add_wallet(service, by="a stranger")
        added = await add_wallet(service)
        in_use = await revoke(service, old, service.position)
    async with opened(tmp_path, chain, signer=new) as service:
        await service.quote(service.buyer(PARTY))
        at = service.position
        operator = await signed_in(service, OPERATOR)
        revoked = await operator.post("/v1/log/keys/revoke", {"purpose": "wallet", "key": old})
        await service.quote(service.buyer(PARTY))
        keys = await operator.get("/ledger/keys")
    audited(tmp_path)

    assert unproven.outcome == (401, "SIGNATURE_INVALID")
    assert added.status == 200, added.body
    assert in_use.outcome == (409, "KEY_IN_USE")
    assert revoked.status == 200, revoked.body
    assert revoked.body["wallets"] == [account_named(NEW_WALLET).address.lower()]
    assert [event["kind"] for event in keys.body["events"]] == [
        "log_opened",
        "key_added",
        "key_revoked",
    ]
    assert json.loads(keys.body["events"][-1]["entry"])["event"]["body"]["last_position"] == at
    with pytest.raises(Misconfigured, match="SIGNER"):
        async with opened(tmp_path, chain):
            pass


async def test_a_stolen_wallet_is_revoked_from_a_position_by_the_recovery_key_alone(
    tmp_path: Path, chain: DevChain
) -> None:
    new = key_file(tmp_path, "new", bytes(account_named(NEW_WALLET).key))
    async with opened(tmp_path, chain) as service:
        old = service.app[LEDGER].signer.address
        assert (await add_wallet(service)).status == 200
        added_at = service.position
    async with opened(tmp_path, chain, signer=new) as service:
        await service.quote(service.buyer(PARTY))
        by_operator = await revoke(service, old, added_at, by=OPERATOR)
        too_early = await revoke(service, old, added_at - 1)
        ahead = await revoke(service, old, service.position + 5)
        revoked = await revoke(service, old, added_at)
        again = await revoke(service, old, added_at)
        operator = await signed_in(service, OPERATOR)
        readded = await operator.post("/v1/log/keys", {"purpose": "wallet", "key": old})
        payment = await operator.post("/v1/log/keys", {"purpose": "payment", "key": "x"})
    audited(tmp_path)

    assert by_operator.outcome == (401, "SIGNATURE_INVALID")
    assert too_early.outcome == (400, "INVALID_REQUEST")
    assert ahead.outcome == (400, "INVALID_REQUEST")
    assert revoked.status == 200, revoked.body
    assert again.outcome == (409, "INVALID_ORDER_STATE")
    assert readded.outcome == (409, "INVALID_ORDER_STATE")
    assert payment.outcome == (400, "INVALID_REQUEST")


async def test_a_log_key_is_rotated(tmp_path: Path, chain: DevChain) -> None:
    seed = bytes(range(32))
    async with opened(tmp_path, chain) as service:
        operator = await signed_in(service, OPERATOR)
        old = service.app[LEDGER].log_key.vkey
        new = LogKey(origin(service), seed).vkey
        foreign = LogKey("another/log", seed).vkey
        order_id = await service.quote(service.buyer(PARTY))
        cosigned = service.app[LEDGER].head.note
        refused = await operator.post("/v1/log/keys", {"purpose": "log", "key": foreign})
        added = await operator.post("/v1/log/keys", {"purpose": "log", "key": new})
    # The guard holds a note of the old key; the new one signs from here on.
    async with opened(tmp_path, chain, log_key=key_file(tmp_path, "log", seed)) as service:
        await service.quote(service.buyer(PARTY))
        operator = await signed_in(service, OPERATOR)
        revoked = await operator.post("/v1/log/keys/revoke", {"purpose": "log", "key": old})
        assert service.app[LEDGER].log_key.vkey == new
    async with opened(tmp_path, chain, log_key=key_file(tmp_path, "log", seed)):
        pass
    audited(tmp_path)

    assert refused.outcome == (400, "INVALID_REQUEST")
    assert (added.status, revoked.status) == (200, 200)
    assert revoked.body["log_keys"] == [new]
    # What the witnesses signed last may still be a head of the key that was revoked since.
    data = tmp_path / "data"
    (data / WITNESSED_NOTE).write_text(cosigned)
    sources = [f"file:{data / 'keys' / 'provider.json'}", key_file(tmp_path, "log", seed)]
    exported = export(Folder(data, tmp_path / "data.guard", *sources), order_id)
    assert exported.log_key == new


async def test_a_closed_log_takes_nothing_and_a_new_one_continues_it(
    tmp_path: Path, chain: DevChain
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    async with opened(old, chain) as service:
        stranger = await close(service, by=OPERATOR)
        closed = await close(service)
        refused = await service.buyer(PARTY).request("text_echo", "x")
        head = service.app[LEDGER].head
        ended = f"{origin(service)} {head.size} {head.root.hex()}"
    audited(old)
    async with opened(old, chain) as service:  # to read, for as long as anybody asks
        again = await service.buyer(PARTY).request("text_echo", "x")
        checkpoint = (await service.session.get(service.url + "/ledger/checkpoint")).status
    async with opened(new, chain, continues=ended) as service:
        await service.quote(service.buyer(PARTY))
        genesis = service.app[LEDGER].log_state.genesis
    audited(new)

    assert stranger.outcome == (401, "SIGNATURE_INVALID")
    assert closed.body["closed"] is True
    assert (refused.status, refused.body["error"]) == (503, "MISCONFIGURED")
    assert (again.status, again.body["error"], checkpoint) == (503, "MISCONFIGURED", 200)
    assert genesis.continues is not None
    assert genesis.continues.head.size == head.size
    with pytest.raises(Misconfigured, match="CONTINUES"):
        async with opened(new, chain, continues=ended.replace(" 3 ", " 4 ")):
            pass
