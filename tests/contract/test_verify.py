"""The wallet proves itself to directories, and signs nothing else for anybody."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from eth_account import Account
from eth_account.messages import encode_defunct

from api.keys import LEDGER
from ledger.signing import SIGNABLE_PREFIXES
from tests.contract.kit import Service, send, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/.well-known/ivxp-verify"
ID = "3f2b8c1e-9d47-4a6b-8e21-0c5d7f9a1b34"
GOOD = f"ivxp-claim:{ID}"
OTHER_WALLET = "0x" + "12" * 20
ORDER = f"ivxp-{ID}"
TX = "0x" + "ab" * 32


def hostile() -> list[str]:
    """Return texts that somebody might want this wallet's signature on."""
    around = [
        "",
        " ",
        "\n",
        "\r",
        "\t",
        "\0",
        "\u00a0",
        "\ufeff",
        "\u200b",
        "\u2028",
        ".",
        "|",
        "x",
    ]
    found = [before + GOOD + after for before in around for after in around if before + after]
    found += [GOOD[:end] for end in range(len(GOOD))]
    found += [GOOD[:at] + "g" + GOOD[at + 1 :] for at in range(len("ivxp-claim:"), len(GOOD))]
    found += [
        GOOD.upper(),
        "ivxp-claim:" + ID.upper(),
        "IVXP-CLAIM:" + ID,
        "ivxp-claim:" + ID.replace("-", ""),
        "ivxp-claim:{" + ID + "}",
        "ivxp-claim:urn:uuid:" + ID,
        "ivxp-claim::" + ID,
        "ivxp-claim: " + ID,
        "ivxp-claim:" + "\uff10" * 8 + ID[8:],
        "ivxp-claim:" + "\u0660" * 8 + ID[8:],
        "ivxp\u2010claim:" + ID,
        "\u0456vxp-claim:" + ID,
        GOOD + GOOD,
        GOOD + "\nOrder: " + ORDER,
        f"Order: {ORDER} | Payment: {TX} | Timestamp: 2026-01-01T00:00:00Z",
        f"Confirm delivery: {ORDER} | Timestamp: 2026-01-01T00:00:00Z",
        f"Order: {ORDER} | Received: true | Hash: {'0' * 64} | Timestamp: 2026-01-01T00:00:00Z",
        f"IVXP Provider Claim\nWallet: {OTHER_WALLET}\nEndpoint: https://x\nTimestamp: 1",
        "example.org wants you to sign in with your Ethereum account:\n" + OTHER_WALLET,
        "\x19Ethereum Signed Message:\n47" + GOOD,
        "\x19\x01" + "\x00" * 64,
        TX,
        json.dumps({"types": {}, "primaryType": "Permit", "domain": {}, "message": {}}),
    ]
    found += [prefix.decode() + rest for prefix in SIGNABLE_PREFIXES for rest in ("", "{}", ORDER)]
    return list(dict.fromkeys(text for text in found if text != GOOD))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    async with serving(tmp_path_factory.mktemp("verify")) as running:
        yield running


async def ask(service: Service, **body: object) -> tuple[int, dict[str, Any]]:
    status, answer, _ = await send(service, "POST", PATH, json.dumps(body).encode())
    return status, answer


def wallet(service: Service) -> str:
    return service.app[LEDGER].signer.address


async def test_a_claim_is_signed_by_the_wallet_that_signs_the_events(service: Service) -> None:
    before = service.position

    status, body = await ask(service, challenge=GOOD, wallet_address=wallet(service))

    assert status == 200
    assert set(body) == {"challenge", "signer", "signature"}
    assert body["challenge"] == GOOD
    signer = Account.recover_message(encode_defunct(text=GOOD), signature=body["signature"])
    assert signer.lower() == body["signer"] == wallet(service)
    assert service.position == before


async def test_the_wallet_may_be_left_out_and_may_be_written_with_its_checksum(
    service: Service,
) -> None:
    signed = await ask(service, challenge=GOOD)
    written = "0x" + wallet(service)[2:].upper()

    assert signed[0] == 200
    assert await ask(service, challenge=GOOD, wallet_address=None) == signed
    status, body = await ask(service, challenge=GOOD, wallet_address=written)
    assert (status, body["signer"]) == (200, written)
    assert body["signature"] == signed[1]["signature"]


@pytest.mark.parametrize("version", [1, 4, 7])
async def test_a_uuid_of_any_version_is_one(service: Service, version: int) -> None:
    challenge = f"ivxp-claim:{UUID(int=2**100 + 5, version=4)}".replace("-4", f"-{version}", 1)

    assert (await ask(service, challenge=challenge))[0] == 200


async def test_another_wallet_is_not_ours_to_claim(service: Service) -> None:
    status, body = await ask(service, challenge=GOOD, wallet_address=OTHER_WALLET)

    assert (status, body["error"]) == (422, "WALLET_MISMATCH")
    assert "signature" not in body


async def test_no_other_text_is_ever_signed(service: Service) -> None:
    texts = hostile()
    assert len(texts) >= 200
    signed = []

    for text in texts:
        status, body = await ask(service, challenge=text, wallet_address=wallet(service))
        if (status, body.get("error")) != (400, "CHALLENGE_NOT_SIGNABLE") or "signature" in body:
            signed.append((text, status, body))

    assert signed == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"challenge": None},
        {"challenge": 5},
        {"challenge": [GOOD]},
        {"challenge": {"text": GOOD}},
        {"challenge": GOOD, "wallet_address": "0x12"},
        {"challenge": GOOD, "wallet_address": 5},
        {"challenge": GOOD, "wallet_address": "ivxp"},
    ],
)
async def test_a_request_of_another_form_is_refused(
    service: Service, body: dict[str, object]
) -> None:
    status, answer = await ask(service, **body)

    assert (status, answer["error"]) == (400, "INVALID_REQUEST")


async def test_a_challenge_that_stands_twice_in_the_body_is_no_json(service: Service) -> None:
    data = f'{{"challenge": "{GOOD}", "challenge": "{TX}"}}'.encode()

    status, body, _ = await send(service, "POST", PATH, data)

    assert (status, body["error"]) == (400, "INVALID_JSON")
