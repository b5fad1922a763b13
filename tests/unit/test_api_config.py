"""Settings: each is checked, all problems come at once, and a hot treasury is refused."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from api.app import make_app
from api.config import Settings, load_settings
from ledger.errors import Misconfigured
from ledger.signing import Signer, load_secret, write_secret

ADDRESS = "0x00000000000000000000000000000000000000aa"


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


def test_only_the_two_addresses_have_no_default() -> None:
    assert load().network == "base-sepolia"
    with pytest.raises(Misconfigured) as refused:
        load_settings()
    assert refused.value.message.splitlines() == [
        "LEDGER_PAYMENT_ADDRESS: an address is needed; its key stays elsewhere",
        "LEDGER_RECOVERY_ADDRESS: an address is needed; its key stays elsewhere",
    ]


def test_all_problems_are_named_at_once() -> None:
    found = problems(
        port=70_000,
        network="ethereum",
        payment_address="0x12",
        recovery_address="",
        trusted_proxies="10.0.0.0/8, nowhere",
        safe_above_usdc="0.0000001",
        catalog="no/such/file.toml",
        rate_limit=-1,
        body_timeout=0,
        origin="a b",
    )

    assert {line.split(":")[0] for line in found} == {
        f"LEDGER_{name}"
        for name in (
            "PORT",
            "NETWORK",
            "PAYMENT_ADDRESS",
            "RECOVERY_ADDRESS",
            "TRUSTED_PROXIES",
            "SAFE_ABOVE_USDC",
            "CATALOG",
            "RATE_LIMIT",
            "BODY_TIMEOUT",
            "ORIGIN",
        )
    }
    assert len(found) == 10


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "http"),
        ("port", -1),
        ("rpc_timeout", 0),
        ("min_confirmations", 0),
        ("payment_timeout", 0),
        ("max_open_quotes", -1),
        ("body_max_bytes", 10),
        ("content_max_bytes", 0),
        ("handler_timeout", 0),
        ("handlers_at_once", 0),
        ("loop_interval", 0),
        ("dev_chain", "perhaps"),
        ("safe_above_usdc", "NaN"),
        ("safe_above_usdc", "-1"),
        ("payment_address", ADDRESS + "0"),
        ("payment_address", ADDRESS + "\n"),
        ("payment_address", "eip155:84532:" + ADDRESS),
        ("trusted_proxies", "10.0.0.0/33"),
        ("public_url", "shop.example"),
        ("path_prefix", "ledger/"),
        ("cors_origins", "shop.example"),
        ("max_connections", 0),
        ("max_connections_per_address", -1),
        ("idle_timeout", 0),
        ("send_timeout", 0),
        ("origin", ""),
        ("catalog", "."),
    ],
)
def test_a_setting_out_of_bounds_is_named(name: str, value: object) -> None:
    [line] = problems(**{name: value})

    assert line.startswith(f"LEDGER_{name.upper()}: ")


def test_settings_come_from_the_environment_and_options_outrank_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LEDGER_PORT", "9000")
    monkeypatch.setenv("LEDGER_HOST", "0.0.0.0")  # noqa: S104 - not listened on
    monkeypatch.setenv("LEDGER_RPC_URLS", "http://one.example, http://two.example,")
    monkeypatch.setenv("LEDGER_PAYMENT_ADDRESS", "nowhere")

    settings = load(port=9001, host=None)

    assert (settings.port, settings.host) == (9001, "0.0.0.0")  # noqa: S104
    assert settings.rpc_urls == ("http://one.example", "http://two.example")
    monkeypatch.delenv("LEDGER_RPC_URLS")
    with pytest.raises(Misconfigured, match="LEDGER_PAYMENT_ADDRESS"):
        load_settings(recovery_address=ADDRESS)


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PORT", "GUARD_FILE", "SAFE_ABOVE_USDC", "RPC_URLS", "DEV_CHAIN"):
        monkeypatch.setenv(f"LEDGER_{name}", "")

    settings = load()

    assert (settings.port, settings.guard_file, settings.rpc_urls) == (8402, None, ())
    assert settings.safe_above_usdc == Decimal(100)


def test_the_guard_lies_beside_the_data_folder_and_not_in_it(tmp_path: Path) -> None:
    settings = load(data_dir=tmp_path / "data")

    assert settings.guard_path == tmp_path / "data.guard"
    assert load(guard_file=tmp_path / "g").guard_path == tmp_path / "g"


def test_every_network_has_its_chain_and_its_token() -> None:
    mainnet, testnet = load(network="base-mainnet"), load()

    assert (mainnet.chain, testnet.chain) == ("eip155:8453", "eip155:84532")
    assert mainnet.token == "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913"
    assert testnet.token == "0x036cbd53842c5426634e7929541ec2318f3dcf7e"


def hot(tmp_path: Path, **settings: object) -> Settings:
    """Return settings whose payments go to the wallet that the service signs with."""
    key_file = tmp_path / "wallet.json"
    if not key_file.exists():
        write_secret(key_file, b"\x07" * 32)
    address = Signer(load_secret(f"file:{key_file}")).address
    return load(
        signer=f"file:{key_file}",
        payment_address=address.upper().replace("0X", "0x"),
        data_dir=tmp_path / "data",
        **settings,
    )


def test_a_payment_address_whose_key_the_service_holds_is_refused_before_anything_is_recorded(
    tmp_path: Path,
) -> None:
    with pytest.raises(Misconfigured, match="ALLOW_HOT_TREASURY"):
        make_app(hot(tmp_path))

    assert not (tmp_path / "data" / "ledger.db").exists()


@pytest.mark.parametrize("consent", ["dev_chain", "allow_hot_treasury"])
def test_a_hot_treasury_needs_a_dev_chain_or_consent(tmp_path: Path, consent: str) -> None:
    make_app(hot(tmp_path, **{consent: True}))


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("env:NO_SUCH_VARIABLE", "no 32-byte key"),
        ("vault:key", "file:PATH or env:NAME"),
        ("file:", "file:PATH or env:NAME"),
        ("env:LEDGER_TEST_ZERO", "no key of the curve"),
        ("file:/proc/no/such/folder/key.json", "LEDGER_SIGNER: "),
    ],
)
def test_a_key_that_cannot_be_had_is_a_problem_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, complaint: str
) -> None:
    monkeypatch.setenv("LEDGER_TEST_ZERO", "00" * 32)

    with pytest.raises(Misconfigured, match=complaint):
        make_app(load(signer=source, data_dir=tmp_path / "data"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "provider: Field required"),
        ("provider = 5", "provider: Input should be a valid string"),
        ("provider = ", "Invalid value"),
        ('provider = "p"\nservices = []', "services: "),
        ('provider = "p"\nextra = 1', "extra: "),
    ],
)
def test_a_catalog_that_is_none_is_a_problem_of_the_settings(
    tmp_path: Path, text: str, complaint: str
) -> None:
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(text)

    with pytest.raises(Misconfigured, match=complaint):
        make_app(load(catalog=catalog, data_dir=tmp_path / "data"))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"handler": "api.offerings.text:nothing"}, "has no attribute"),
        ({"handler": "no.such.module:handler"}, "No module"),
        ({"handler": "api.offerings.text:__name__"}, "not callable"),
        ({"price_usdc": "0"}, "price_usdc"),
        ({"price_usdc": "0.0000001"}, "6 decimals"),
        ({"type": "two words"}, "type"),
    ],
)
def test_a_bad_service_of_the_catalog_is_a_problem_of_the_settings(
    tmp_path: Path, change: dict[str, str], complaint: str
) -> None:
    service = {
        "type": "echo",
        "price_usdc": "0.1",
        "handler": "api.offerings.text:text_echo",
        **change,
    }
    lines = "".join(f'{name} = "{value}"\n' for name, value in service.items())
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(f'provider = "p"\n[[services]]\nestimated_delivery_hours = 1\n{lines}')

    with pytest.raises(Misconfigured, match=complaint):
        make_app(load(catalog=catalog, data_dir=tmp_path / "data"))
