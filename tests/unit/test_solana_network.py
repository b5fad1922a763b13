"""Of which network a Solana node is, and which nodes are taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.solana_link import network_of
from ledger.errors import Misconfigured
from ledger.wallets import SOLANA_CHAINS
from tests.contract.kit import make_settings

DEVNET, MAINNET = SOLANA_CHAINS["devnet"], SOLANA_CHAINS["mainnet"]
OWN = "solana:8rfHmsnVhGvcEiTAuTXnHq5ZvJvqcn2n"
NEAR, FAR = "http://127.0.0.1:8899", "https://node.example.com/key"

TAKEN = [
    # network, dev chain, where it is, what it tells, what it stands for
    ("devnet", False, FAR, DEVNET, DEVNET),
    ("mainnet", False, FAR, MAINNET, MAINNET),
    ("devnet", False, FAR, None, None),
    ("devnet", True, NEAR, OWN, DEVNET),
    ("devnet", True, "http://localhost:8899", OWN, DEVNET),
    ("devnet", True, "http://[::1]:8899", OWN, DEVNET),
]
REFUSED = [
    ("devnet", True, NEAR, MAINNET),
    ("devnet", False, NEAR, OWN),
    ("devnet", True, FAR, OWN),
    ("devnet", True, "http://127.0.0.1.example.com", OWN),
    ("mainnet", True, NEAR, DEVNET),
    ("mainnet", True, NEAR, OWN),
    ("mainnet", True, NEAR, None),
]


@pytest.mark.parametrize(("network", "dev", "url", "told", "found"), TAKEN)
def test_a_node_stands_for_the_network_that_it_tells(
    tmp_path: Path,
    network: str,
    dev: bool,  # noqa: FBT001 - a case
    url: str,
    told: str | None,
    found: str | None,
) -> None:
    settings = make_settings(tmp_path, solana_network=network, dev_chain=dev, solana_rpc_url=url)

    assert network_of(told, settings) == found


@pytest.mark.parametrize(("network", "dev", "url", "told"), REFUSED)
def test_a_node_of_another_network_is_refused(
    tmp_path: Path,
    network: str,
    dev: bool,  # noqa: FBT001 - a case
    url: str,
    told: str | None,
) -> None:
    settings = make_settings(tmp_path, solana_network=network, dev_chain=dev, solana_rpc_url=url)

    with pytest.raises(Misconfigured, match="LEDGER_SOLANA_RPC_URL is a node of "):
        network_of(told, settings)
