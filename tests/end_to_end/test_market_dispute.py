"""A marketplace order that its client disputes: audited, exported, and judged by strangers.

The client is a Solana wallet. Everything comes from the service's folder and from the bundle; the
verifier runs alone, in an empty environment, without packages and without network.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from api.keys import LEDGER
from ledger.evidence_verify.bags import read_zip
from ledger.service import system_clock
from ledger.values import iso_of
from scripts import audit_replay, export_evidence
from tests.contract.kit import Service
from tests.contract.market_kit import AGENT, CLIENT, Market, market, talking
from tests.end_to_end.test_verify import NO_NETWORK, program
from tests.support.solana import LocalSolana

__all__ = ["program"]

PRICE = 2.01


async def sold(m: Market) -> str:
    """Return an order that was offered, haggled over, paid and delivered."""
    provider, talk = await talking(m)
    first = await provider.create_order(talk.id, "a page", 3.0, 30)
    await talk.counter_offer(str(first["orderId"]), "for 2.01?", PRICE, 30)
    await talk.decline_order(str(first["orderId"]), "too much")
    order_id, _ = await m.paid_order(provider, talk, PRICE)
    await provider.deliver(order_id, {"pages": 1}, "here it is")
    return order_id


async def disputed(m: Market, order_id: str) -> None:
    """Sign a complaint with the client's Solana wallet."""
    stamp = iso_of(system_clock())
    text = (
        f"Dispute delivery: {order_id} | Reason: wrong_content | Hash: none"
        f" | Statement: none | Timestamp: {stamp}"
    )
    said = {"message": text, "signature": CLIENT.sign(text)}
    body = {"protocol": "IVXP/1.0", "order_id": order_id, "dispute": said}
    await m.native(CLIENT, "POST", f"/ivxp/orders/{order_id}/dispute", body)


def verified(program: Path, bundle: Path, *trusted: str) -> tuple[int, str]:
    command = [*NO_NETWORK, "env", "-i", sys.executable, "-I", str(program), str(bundle), *trusted]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def trusted_of(service: Service) -> list[str]:
    ledger = service.app[LEDGER]
    keys = {"--origin": ledger.origin, "--log-key": ledger.log_key.vkey}
    keys |= {"--wallet": ledger.signer.address}
    return [word for pair in keys.items() for word in pair]


@pytest.mark.parametrize("settles", [False, True], ids=["signed", "settled"])
async def test_a_disputed_order_of_the_marketplace_is_audited_and_exported(
    tmp_path: Path,
    program: Path,
    capsys: pytest.CaptureFixture[str],
    settles: bool,  # noqa: FBT001 - a case
) -> None:
    async with (
        LocalSolana() as node,
        market(tmp_path, "credentials", node=node if settles else None) as m,
    ):
        order_id = await sold(m)
        await disputed(m, order_id)
        shown = await m.native(AGENT, "GET", f"/orders/{order_id}")
        told = [event["type"] for event in await m.feed(CLIENT)]
        trusted = trusted_of(m.service)

    assert (shown["status"], shown["paymentStatus"]) == (
        "DISPUTED",
        "settled" if settles else "signed",
    )
    assert {"order.proposed", "order.negotiating", "order.declined"} <= set(told)
    assert told[-3:] == ["order.in_progress", "order.ready", "order.disputed"]

    assert audit_replay.main([str(tmp_path / "data")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "audit: ok"

    out = tmp_path / "bundles"
    out.mkdir()
    exported = [str(tmp_path / "data"), order_id, "--out", str(out / "case.zip")]
    assert export_evidence.main(exported) == 0
    code, said = verified(program, out / "case.zip", *trusted)
    assert (code, "FAIL" in said) == (0, False), said

    _, files = read_zip((out / "case.zip").read_bytes())
    case: dict[str, Any] = json.loads(files["data/case.json"])
    assert case["status"] == "disputed"
    assert CLIENT.address in json.dumps(case)
