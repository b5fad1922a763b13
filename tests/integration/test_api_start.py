"""Starting the real process: what contradicts the ledger ends it with a message, and no harm."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from scripts.devchain import DevChain
from tests.support.service import PAYMENT_ADDRESS, RECOVERY_ADDRESS, Service, running

pytestmark = pytest.mark.slow

OTHER_ADDRESS = "0x00000000000000000000000000000000000000cc"
OTHER_KEY = "0x" + "07" * 32
SECONDS = 60


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a ledger that was opened once and closed again."""
    folder = tmp_path_factory.mktemp("opened")
    with running(folder):
        pass
    return folder


def refused(folder: Path, rpc_url: str = "", **settings: str) -> str:
    """Start the service, which has to refuse; return what it says."""
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("LEDGER_")},
        "LEDGER_PORT": "0",
        "LEDGER_DATA_DIR": str(folder / "data"),
        "LEDGER_RPC_URLS": rpc_url,
        "LEDGER_DEV_CHAIN": "true",
        "LEDGER_PAYMENT_ADDRESS": PAYMENT_ADDRESS,
        "LEDGER_RECOVERY_ADDRESS": RECOVERY_ADDRESS,
        "OTHER_KEY": OTHER_KEY,
        **{f"LEDGER_{name.upper()}": value for name, value in settings.items()},
    }
    ended = subprocess.run(
        [sys.executable, "-m", "scripts.cli", "serve"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""
    return ended.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NETWORK", "base-mainnet"),
        ("RECOVERY_ADDRESS", OTHER_ADDRESS),
        ("PAYMENT_ADDRESS", OTHER_ADDRESS),
        ("DEV_CHAIN", "false"),
        ("SIGNER", "env:OTHER_KEY"),
    ],
)
def test_a_setting_that_differs_from_the_genesis_is_named(
    opened: Path, name: str, value: str
) -> None:
    message = refused(opened, **{name: value})

    code, _, text = message.partition(": ")
    assert code == "MISCONFIGURED"
    assert f"{name} is " in text


@pytest.mark.parametrize(
    ("name", "value"), [("ORIGIN", "elsewhere/ledger"), ("LOG_KEY", "env:OTHER_KEY")]
)
def test_a_log_whose_name_or_key_is_another_is_refused(opened: Path, name: str, value: str) -> None:
    message = refused(opened, **{name: value})

    code, _, text = message.partition(": ")
    # The guard may be the first to notice: it holds a head of the log as it was.
    assert code in ("MISCONFIGURED", "VERIFICATION_FAILED")
    assert f"{name} is " in text or "no signature of " in text


def test_a_refused_start_leaves_the_ledger_as_it_was(opened: Path) -> None:
    before = (opened / "data.guard").read_bytes()
    refused(opened, network="base-mainnet")

    assert (opened / "data.guard").read_bytes() == before
    with running(opened) as service:
        assert service.url


def test_several_contradictions_are_named_at_once(opened: Path) -> None:
    message = refused(opened, recovery_address=OTHER_ADDRESS, payment_address=OTHER_ADDRESS)

    assert "RECOVERY_ADDRESS is " in message
    assert "PAYMENT_ADDRESS is " in message


def test_a_second_process_on_the_same_folder_is_refused_and_the_first_goes_on(
    tmp_path: Path,
) -> None:
    with running(tmp_path) as first:
        message = refused(tmp_path)

        assert message.startswith("MISCONFIGURED: another process uses ")
        (tmp_path / "other").mkdir()
        second = Service(tmp_path / "other")
        second.start()
        assert {answers(first), answers(second)} == {200}
        assert second.stop() == 0


def test_a_fresh_chain_under_an_old_ledger_is_refused(chain: DevChain, tmp_path: Path) -> None:
    with running(tmp_path, chain.rpc_url):
        pass
    with DevChain() as fresh:
        # A chain that began in the same second would have the same genesis.
        assert genesis(fresh) != genesis(chain)

        message = refused(tmp_path, fresh.rpc_url)

    assert message.startswith("MISCONFIGURED: the ledger was made on eip155:84532 with genesis ")
    with running(tmp_path, chain.rpc_url) as again:
        assert again.url


def test_an_endpoint_of_another_chain_is_refused(tmp_path: Path) -> None:
    with DevChain(chain_id=8453) as mainnet:
        message = refused(tmp_path, mainnet.rpc_url)

    assert message.startswith("MISCONFIGURED: ")
    assert "8453" in message


def test_a_guard_that_is_ahead_of_the_ledger_is_refused(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        guard = service.guard
    for part in (tmp_path / "data").glob("ledger.db*"):
        part.unlink()

    message = refused(tmp_path)

    assert message.startswith("VERIFICATION_FAILED: a head of size 1 was signed")
    assert guard.exists()


def test_a_missing_guard_is_refused(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        guard = service.guard
    guard.unlink()

    assert refused(tmp_path).startswith("MISCONFIGURED: ")


def test_a_missing_address_is_refused_with_every_other_problem(tmp_path: Path) -> None:
    message = refused(tmp_path, payment_address="", port="x")

    assert message.startswith("LEDGER_PAYMENT_ADDRESS: an address is needed")
    assert not (tmp_path / "data").exists()


def test_a_service_that_is_told_to_stop_ends_with_zero(tmp_path: Path) -> None:
    service = Service(tmp_path)
    service.start()
    assert answers(service) == 200

    assert service.stop() == 0


def answers(service: Service) -> int:
    with urlopen(f"{service.url}/health", timeout=SECONDS) as response:  # noqa: S310 - our own
        status: int = response.status
    return status


def genesis(chain: DevChain) -> str:
    block = chain.rpc("eth_getBlockByNumber", ["0x0", False])
    return str(block["hash"])
