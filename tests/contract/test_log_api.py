"""The log in public: an outsider with nothing but HTTP and published formats checks all of it."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from multidict import CIMultiDict

from api.keys import LEDGER
from api.log.held import CONSISTENCY
from api.log.tiles import tile_path
from api.witnesses import WITNESSES
from ledger.checkpoint import verify_checkpoint
from ledger.cosignature import Cosigner
from ledger.merkle import leaf_hash, verify_consistency, verify_inclusion
from ledger.proof_text import parse_consistency, parse_inclusion
from scripts.devchain import DevChain
from tests.contract.callers import AUDITOR, PARTY, ROLES, WORKER, signed_in
from tests.contract.kit import Service, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVENTS = 600
"""More than two level-0 tiles."""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service(
    chain: DevChain, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    async with serving(tmp_path_factory.mktemp("service"), chain, **ROLES) as running:
        buyer = running.buyer(PARTY)
        while running.position < EVENTS:
            await running.quote(buyer)
        yield running


async def fetched(service: Service, path: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    async with service.session.get(service.url + path, headers=headers) as response:
        return response.status, await response.read(), dict(response.headers)


def head_of(service: Service) -> tuple[int, bytes]:
    head = service.app[LEDGER].head
    return head.size, head.root


async def test_the_checkpoint_is_signed_by_the_logs_key(service: Service) -> None:
    status, note, headers = await fetched(service, "/ledger/checkpoint")
    ledger = service.app[LEDGER]

    checkpoint = verify_checkpoint(note.decode(), ledger.log_key.vkey, ledger.origin)

    assert (status, checkpoint.size, checkpoint.root) == (200, *head_of(service))
    assert headers["Content-Type"].startswith("text/plain")
    assert "max-age=1" in headers["Cache-Control"]


async def test_the_tiles_hold_every_leaf_and_lead_to_the_root(service: Service) -> None:
    size, root = head_of(service)
    auditor = await signed_in(service, AUDITOR)
    token = {"Authorization": f"Bearer {auditor.token}"}
    leaves: list[bytes] = []
    for index in range(-(-size // 256)):
        width = min(256, size - 256 * index)
        path = tile_path(index) + ("" if width == 256 else f".p/{width}")
        status, tile, headers = await fetched(service, f"/ledger/tile/0/{path}")
        assert (status, len(tile)) == (200, 32 * width)
        assert "immutable" in headers["Cache-Control"]
        bundle_status, bundle, _ = await fetched(service, f"/ledger/tile/entries/{path}", **token)
        assert bundle_status == 200
        entries = unbundled(bundle)
        assert [leaf_hash(entry) for entry in entries] == [
            tile[at : at + 32] for at in range(0, len(tile), 32)
        ]
        leaves += [leaf_hash(entry) for entry in entries]
    assert root_of(leaves) == root
    full = size // 256
    status, upper, _ = await fetched(service, f"/ledger/tile/1/000.p/{full}")
    assert (status, len(upper)) == (200, 32 * full)
    assert upper[:32] == root_of(leaves[:256])


def unbundled(bundle: bytes) -> list[bytes]:
    entries = []
    while bundle:
        length = int.from_bytes(bundle[:2], "big")
        entries.append(bundle[2 : 2 + length])
        bundle = bundle[2 + length :]
    return entries


def root_of(leaves: list[bytes]) -> bytes:
    """Return the RFC 6962 root, written out anew."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    data = b"\x01" + root_of(leaves[:split]) + root_of(leaves[split:])
    return hashlib.sha256(data).digest()


@pytest.mark.parametrize(
    "path",
    [
        "0/003",
        "0/000.p/256",
        "0/000.p/0",
        "0/000.p/01",
        "0/0",
        "0/0000",
        "0/x000/000",
        "0/x001/000",
        "0/000/",
        "1/000",
        "6/000",
        "-1/000",
        "0/%2e%2e/000",
        "x/000",
        "0/000.p/255/1",
        "0/\u0660\u0660\u0660",
        "0/x001/" + "x000/" * 1500 + "000",
    ],
)
async def test_a_tile_that_there_is_not_is_404(service: Service, path: str) -> None:
    status, body, _ = await fetched(service, f"/ledger/tile/{path}")
    assert (status, json.loads(body)["error"]) == (404, "NOT_FOUND")


async def test_the_index_of_a_tile_has_one_spelling() -> None:
    spelled = {0: "000", 999: "999", 1000: "x001/000", 1234067: "x001/x234/067"}
    assert {index: tile_path(index) for index in spelled} == spelled


@pytest.mark.parametrize("name", [PARTY, WORKER])
async def test_entries_are_for_auditors(service: Service, name: str) -> None:
    caller = await signed_in(service, name)
    anonymous = await fetched(service, "/ledger/tile/entries/000")
    party = await fetched(
        service, "/ledger/tile/entries/000", Authorization=f"Bearer {caller.token}"
    )
    assert anonymous[0] == 401
    assert party[0] == 403


async def test_an_orders_events_are_for_its_parties_and_prove_themselves(service: Service) -> None:
    order_id = await service.quote(service.buyer(PARTY))
    path = f"/ledger/orders/{order_id}"
    party, stranger = await signed_in(service, PARTY), await signed_in(service, "somebody")
    events = await party.get(f"{path}/events")
    refused = await stranger.get(f"{path}/events")
    head = json.loads((await fetched(service, f"{path}/head"))[1])
    status, text, _ = await fetched(service, f"{path}/events/1/proof")
    assert (events.status, refused.outcome, status) == (200, (404, "ORDER_NOT_FOUND"), 200)

    ledger = service.app[LEDGER]
    [event] = events.body["events"]
    proof = parse_inclusion(text.decode())
    checkpoint = verify_checkpoint(proof.checkpoint, ledger.log_key.vkey, ledger.origin)
    leaf = leaf_hash(event["entry"].encode())
    verify_inclusion(leaf, proof.index, checkpoint.size, proof.proof, checkpoint.root)
    assert leaf.hex() == event["leaf"] == head["leaf"]
    assert head["seq"] == 1
    assert json.loads(head["order_head"]["text"].partition("\n")[2])["seq"] == 1


@pytest.mark.parametrize("seq", ["0", "2", "x", "-1", "99999999999999999999"])
async def test_an_event_that_there_is_not_has_no_proof(service: Service, seq: str) -> None:
    order_id = await service.quote(service.buyer(PARTY))
    status, _, _ = await fetched(service, f"/ledger/orders/{order_id}/events/{seq}/proof")
    assert status == 404


async def test_a_proof_against_an_earlier_size(service: Service) -> None:
    order_id = await service.quote(service.buyer(PARTY))
    size, _ = head_of(service)
    await service.quote(service.buyer(PARTY))
    path = f"/ledger/orders/{order_id}/events/1/proof?size="
    status, text, _ = await fetched(service, path + str(size))
    early, body, _ = await fetched(service, path + str(size - 1))
    late, _, _ = await fetched(service, path + str(size + 100))

    ledger = service.app[LEDGER]
    proof = parse_inclusion(text.decode())
    checkpoint = verify_checkpoint(proof.checkpoint, ledger.log_key.vkey, ledger.origin)
    assert (status, checkpoint.size, proof.index) == (200, size, size - 1)
    assert (early, json.loads(body)["error"], late) == (400, "INVALID_REQUEST", 400)


async def test_a_proof_at_a_fixed_size_is_kept_and_has_the_cosignatures_that_are_shown(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = await service.quote(service.buyer(PARTY))
    proof, consistency = f"/ledger/orders/{order_id}/events/1/proof", "/ledger/proof/consistency"
    head, witness = service.app[LEDGER].head, Cosigner("witness.example/one", b"\x05" * 32)
    text = head.note.partition("\n\n")[0] + "\n"
    cosigned = head.note + witness.cosign(text, 1_767_268_800).line()
    monkeypatch.setattr(service.app[WITNESSES], "checkpoint", lambda _head: cosigned)
    await service.quote(service.buyer(PARTY))
    newer = head.size + 1

    for path, kept, note in (
        (f"{proof}?size={head.size}", "private, max-age=86400", cosigned),
        (f"{proof}?size={newer}", "private, max-age=86400", service.app[LEDGER].head.note),
        (proof, "no-store", service.app[LEDGER].head.note),
        (f"{consistency}?from=1&to={head.size}", "public, max-age=86400", cosigned),
        (f"{consistency}?from=1", "public, max-age=1", service.app[LEDGER].head.note),
    ):
        status, body, headers = await fetched(service, path)
        assert (status, headers["Cache-Control"]) == (200, kept), path
        assert body.decode().endswith("\n\n" + note), path


async def test_every_pair_of_sizes_has_its_consistency_proof(service: Service) -> None:
    ledger = service.app[LEDGER]
    size, _ = head_of(service)
    for old, new in [(0, 1), (1, 2), (1, size), (255, 256), (256, 257), (300, size), (size, size)]:
        path = f"/ledger/proof/consistency?from={old}&to={new}"
        status, text, _ = await fetched(service, path)
        assert status == 200
        proof, note = parse_consistency(text.decode())
        checkpoint = verify_checkpoint(note, ledger.log_key.vkey, ledger.origin)
        assert checkpoint.size == new
        verify_consistency(old, ledger.proofs.root_at(old), new, checkpoint.root, proof)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", (400, "INVALID_REQUEST")),
        ("?from=x", (400, "INVALID_REQUEST")),
        ("?from=3&to=2", (400, "INVALID_REQUEST")),
        ("?from=1&to=999999", (409, "AHEAD")),
        ("?from=999999", (409, "AHEAD")),
    ],
)
async def test_a_consistency_proof_that_there_is_not(
    service: Service, query: str, expected: tuple[int, str]
) -> None:
    status, body, _ = await fetched(service, f"/ledger/proof/consistency{query}")
    assert (status, json.loads(body)["error"]) == expected


async def test_the_keys_and_the_policy_name_what_signs(service: Service) -> None:
    ledger = service.app[LEDGER]
    keys = json.loads((await fetched(service, "/ledger/keys"))[1])
    policy = (await fetched(service, "/ledger/policy"))[1].decode()
    assert keys["log_keys"] == [ledger.log_key.vkey]
    assert keys["wallets"] == [ledger.signer.address]
    assert [event["kind"] for event in keys["events"]] == ["log_opened"]
    assert keys["genesis"] == {
        "log_key": ledger.log_key.vkey,
        "wallet": ledger.signer.address,
    }
    checkpoint = verify_checkpoint(keys["checkpoint"], ledger.log_key.vkey, ledger.origin)
    for event in keys["events"]:
        leaf, index = leaf_hash(event["entry"].encode()), event["position"] - 1
        proof = [b64decode(sibling) for sibling in event["proof"]]
        verify_inclusion(leaf, index, checkpoint.size, proof, checkpoint.root)
    assert policy == f"log {ledger.log_key.vkey}\nquorum none\n"


async def test_a_client_that_sends_its_head_gets_a_proof_with_every_answer(
    service: Service,
) -> None:
    ledger = service.app[LEDGER]
    held = head_of(service)
    order_id = await service.quote(service.buyer(PARTY))
    sent = f"{held[0]} {b64encode(held[1]).decode()}"
    paths = ["/ivxp/catalog", f"/ivxp/status/{order_id}", "/health", "/ledger/checkpoint"]
    for path in [*paths, "/ivxp/status/unknown"]:
        _, _, headers = await fetched(service, path, **{"Ledger-Head": sent})
        size, root = headers["Ledger-Head"].split(" ")
        old, *proof = headers[CONSISTENCY].split(" ")
        assert int(old) == held[0]
        siblings = [b64decode(sibling) for sibling in proof]
        verify_consistency(held[0], held[1], int(size), b64decode(root), siblings)
    assert ledger.head.size == held[0] + 1


async def test_a_client_of_another_history_is_told_and_nothing_is_recorded(
    service: Service,
) -> None:
    ledger = service.app[LEDGER]
    size, _ = head_of(service)
    other = b64encode(hashlib.sha256(b"another history").digest()).decode()
    fork = await fetched(service, "/ivxp/catalog", **{"Ledger-Head": f"{size - 5} {other}"})
    ahead = await fetched(service, "/ivxp/catalog", **{"Ledger-Head": f"{size + 5} {other}"})

    said = json.loads(fork[1])
    assert (fork[0], said["error"]) == (409, "FORK")
    ours = said["details"]["checkpoint_at_held_size"]
    checkpoint = verify_checkpoint(ours, ledger.log_key.vkey, ledger.origin)
    assert checkpoint.size == size - 5
    assert said["details"]["held"]["root"] != checkpoint.root.hex()
    assert (ahead[0], json.loads(ahead[1])["error"]) == (409, "AHEAD")
    async with service.session.post(
        service.url + "/ivxp/request", json={}, headers={"Ledger-Head": f"{size - 5} {other}"}
    ) as response:
        assert response.status == 409
    assert head_of(service)[0] == size


async def test_two_heads_are_refused_and_caches_keep_answers_apart(service: Service) -> None:
    size, root = head_of(service)
    sent = ("Ledger-Head", f"{size} {b64encode(root).decode()}")
    for path in ("/ivxp/catalog", "/ledger/tile/0/000", "/ledger/proof/consistency?from=1&to=2"):
        for heads, expected in ([], 200), ([sent], 200), ([sent, sent], 400):
            async with service.session.get(
                service.url + path, headers=CIMultiDict(heads)
            ) as response:
                body = await response.read()
                assert response.status == expected, body
                assert "Ledger-Head" in ", ".join(response.headers.getall("Vary")).split(", ")


@pytest.mark.parametrize(
    "held",
    [
        "",
        "x",
        "1",
        "1 x",
        "01 " + "A" * 43 + "=",
        "1  " + "A" * 43 + "=",
        "-1 " + "A" * 44,
        "9" * 16 + " " + "A" * 43 + "=",
    ],
)
async def test_a_head_of_another_form_is_refused(service: Service, held: str) -> None:
    status, body, _ = await fetched(service, "/ivxp/catalog", **{"Ledger-Head": held})
    assert (status, json.loads(body)["error"]) == (400, "INVALID_REQUEST")
