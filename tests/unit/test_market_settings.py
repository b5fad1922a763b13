"""The marketplace's settings: each is checked, and claims without proof stay on one machine."""

from __future__ import annotations

import pytest

from api.config import Settings, load_settings
from ledger.errors import Misconfigured
from ledger.wallets import SOLANA_USDC
from tests.support.solana_keys import SolanaKey

ADDRESS = "0x00000000000000000000000000000000000000aa"
WALLET = SolanaKey("market").address


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what the shell that runs the tests has set."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"LEDGER_{name.upper()}", raising=False)


def load(**settings: object) -> Settings:
    return load_settings(**{"payment_address": ADDRESS, "recovery_address": ADDRESS, **settings})


def problems(**settings: object) -> list[str]:
    with pytest.raises(Misconfigured) as refused:
        load(**settings)
    return refused.value.message.splitlines()


def test_proof_is_asked_for_unless_said_otherwise() -> None:
    found = load()

    assert (found.aether_auth, found.compat_batch, found.commission_bps) == ("strict", 20, 1000)
    assert (found.solana_payment_address, found.solana_rpc_url) == ("", "")


def test_every_solana_network_has_its_name_and_its_token() -> None:
    test, real = load(), load(solana_network="mainnet")

    assert test.solana_chain == "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1"
    assert real.solana_chain == "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"
    assert (test.solana_usdc, real.solana_usdc) == (SOLANA_USDC["devnet"], SOLANA_USDC["mainnet"])
    assert load(solana_usdc_mint=WALLET).solana_usdc == WALLET


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_open_is_for_a_loopback_host(host: str) -> None:
    assert load(host=host, aether_auth="open").aether_auth == "open"


@pytest.mark.parametrize(
    "others",
    [
        {"host": "0.0.0.0"},  # noqa: S104 - not listened on
        {"host": "::"},
        {"host": "10.0.0.1"},
        {"host": "shop.example"},
        {"host": "localhost.example"},
        {"public_url": "https://shop.example"},
        {"public_url": "http://127.0.0.1:8402"},
        {"trusted_proxies": "127.0.0.1/32"},
    ],
    ids=str,
)
def test_open_is_refused_where_others_could_come(others: dict[str, object]) -> None:
    [line] = problems(aether_auth="open", **others)

    assert line.startswith("LEDGER_AETHER_AUTH: open ")
    assert load(**others).aether_auth == "strict"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("aether_auth", "compat-open"),
        ("compat_batch", 0),
        ("compat_batch", 501),
        ("solana_network", "testnet"),
        ("solana_payment_address", ADDRESS),
        ("solana_payment_address", WALLET + "1"),
        ("solana_payment_address", WALLET + "\n"),
        ("solana_usdc_mint", "USDC"),
        ("solana_rpc_url", "api.devnet.solana.com"),
        ("solana_rpc_url", "ws://rpc.example"),
        ("solana_rpc_url", "https://"),
        ("solana_rpc_url", "https://rpc.example:0"),
        ("solana_rpc_url", "https://rpc.example:99999"),
        ("solana_rpc_url", "https://rpc.example/a b"),
        ("solana_rpc_url", "https://[::1"),
        ("commission_bps", -1),
        ("commission_bps", 10_001),
        ("commission_bps", "ten"),
    ],
)
def test_a_setting_out_of_bounds_is_named(name: str, value: object) -> None:
    [line] = problems(**{name: value})

    assert line.startswith(f"LEDGER_{name.upper()}: ")


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8899", "https://rpc.example/v1/KEY?api-key=KEY", "https://u:p@rpc.example/"],
)
def test_an_endpoint_may_hold_a_key(url: str) -> None:
    assert load(solana_rpc_url=url).solana_rpc_url == url


def test_a_refused_endpoint_is_not_repeated() -> None:
    [line] = problems(solana_rpc_url="ftp://rpc.example/SECRET")

    assert "SECRET" not in line


def test_all_problems_are_named_at_once() -> None:
    found = problems(
        host="0.0.0.0",  # noqa: S104 - not listened on
        aether_auth="open",
        compat_batch=0,
        solana_network="testnet",
        solana_payment_address="x",
        solana_rpc_url="x",
        solana_usdc_mint="x",
        commission_bps=-1,
    )

    assert len(found) == 7


def test_a_wrong_setting_beside_it_does_not_hide_the_open_mode() -> None:
    found = problems(trusted_proxies="nowhere", host="10.0.0.1", aether_auth="open")

    assert {line.split(":")[0] for line in found} == {
        "LEDGER_TRUSTED_PROXIES",
        "LEDGER_AETHER_AUTH",
    }


@pytest.mark.parametrize("name", ["operators", "workers", "auditors", "arbiter"])
def test_roles_are_for_evm_wallets(name: str) -> None:
    [line] = problems(**{name: WALLET})

    assert line.startswith(f"LEDGER_{name.upper()}: an address is")
