"""The program in the README, run with ethers and viem on an event of every kind."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from ledger.entry import Draft, Seal, seal
from ledger.event import TreeHead
from ledger.events import EVENT_OF
from ledger.signing import Signer
from ledger.values import ZERO_LEAF, UnixMs
from scripts.node_libraries import NodeMissingError, find_libraries, find_node
from tests.unit import builders as b

README = (Path(__file__).resolve().parents[2] / "README.md").read_text("utf-8")
SIGNER = Signer(bytes(range(1, 33)))


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the node program, and a folder with the README's program beside the libraries."""
    try:
        program, modules = find_node(), find_libraries()
    except NodeMissingError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("node")
    (folder / "node_modules").symlink_to(modules)
    [text] = re.findall(r"^```js\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    (folder / "check.mjs").write_text(text)
    return program, folder


def entry_of(kind: str, salt: bytes = bytes(16)) -> bytes:
    place = Seal(
        log="provider.example/orders",
        stream="order/ivxp-00000000-0000-4000-8000-000000000001",
        seq=1,
        prev=ZERO_LEAF,
        at=UnixMs(1_790_000_000_000),
        base=TreeHead(size=0, root="e3" * 32),
        salt=salt,
    )
    return seal(Draft(b.SAMPLES[kind]), place, SIGNER).entry


def checked(node: tuple[Path, Path], entry: bytes, wallet: str) -> dict[str, object]:
    program, folder = node
    (folder / "entry.json").write_bytes(entry)
    done = subprocess.run(
        [program, "check.mjs", "entry.json", wallet],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("kind", sorted(EVENT_OF)[::6])
def test_both_libraries_verify_an_event(node: tuple[Path, Path], kind: str) -> None:
    found = checked(node, entry_of(kind), SIGNER.address)
    assert found == {"kind": kind, "ethers": True, "viem": True}


def test_both_libraries_refuse_a_changed_event_and_another_wallet(
    node: tuple[Path, Path],
) -> None:
    entry = entry_of("quoted")
    changed = entry.replace(b'"kind":"quoted"', b'"kind":"quotes"')
    other = checked(node, entry, Signer(bytes(range(2, 34))).address)
    assert changed != entry
    assert checked(node, changed, SIGNER.address) == {
        "kind": "quotes",
        "ethers": False,
        "viem": False,
    }
    assert (other["ethers"], other["viem"]) == (False, False)
