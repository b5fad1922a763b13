"""Settings from the environment (prefix `LEDGER_`): every limit named, all errors at once."""

from __future__ import annotations

from decimal import Decimal
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from api.market_setting import AetherAuth, Endpoint, SolanaAddress, SolanaNetwork, check_open
from api.url_texts import BaseUrl, Origins, PathPrefix, words_of
from api.witness_setting import Witnesses
from ledger.errors import InvalidInput, Misconfigured
from ledger.values import evm_account, micros_of_usdc, parse_address
from ledger.wallets import SOLANA_CHAINS, SOLANA_USDC

CHAIN_IDS: Final = {"base-mainnet": 8453, "base-sepolia": 84532}
USDC: Final = {
    "base-mainnet": "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913",
    "base-sepolia": "0x036cbd53842c5426634e7929541ec2318f3dcf7e",
}
"""Circle's USDC contracts, lower case."""
MIN_RETENTION: Final = 86400
"""A day: the protocol's least time in which a deliverable can be fetched."""
MAX_PUSH_DELAY: Final = 7 * 86400

Words = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """What the service runs with. Durations in seconds, sizes in bytes, amounts in USDC."""

    model_config = SettingsConfigDict(
        env_prefix="LEDGER_", env_ignore_empty=True, extra="ignore", frozen=True
    )

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8402
    data_dir: Path = Path("data")
    guard_file: Path | None = None
    origin: Annotated[str, Field(pattern=r"^[A-Za-z0-9._/-]{1,160}$")] = "localhost/ivxp/ledger"
    network: Literal["base-mainnet", "base-sepolia"] = "base-sepolia"
    rpc_urls: Words = ()
    rpc_timeout: Annotated[float, Field(gt=0, le=60)] = 4.0
    min_confirmations: Annotated[int, Field(ge=1, le=10_000)] = 1
    safe_above_usdc: Decimal | None = Decimal(100)
    signer: str = ""
    log_key: str = ""
    payment_address: Annotated[str, Field(validate_default=True)] = ""
    recovery_address: Annotated[str, Field(validate_default=True)] = ""
    catalog: Annotated[Path, Field(validate_default=True)] = Path("catalog.toml")
    path_prefix: PathPrefix = ""
    public_url: BaseUrl = ""
    trusted_proxies: Words = ()
    cors_origins: Origins = "*"
    max_connections: Annotated[int, Field(ge=1, le=100_000)] = 2000
    max_connections_per_address: Annotated[int, Field(ge=0)] = 200
    idle_timeout: Annotated[float, Field(gt=0, le=3600)] = 15.0
    send_timeout: Annotated[float, Field(gt=0, le=3600)] = 60.0
    payment_timeout: Annotated[int, Field(ge=1, le=30 * 86400)] = 3600
    acceptance_window: Annotated[int, Field(ge=0, le=365 * 86400)] = 3 * 86400
    answer_window: Annotated[int, Field(ge=0, le=365 * 86400)] = 3 * 86400
    arbiter: str = ""
    refund_policy: str = "Refunds are decided case by case and recorded from on-chain transfers."
    rate_limit: Annotated[int, Field(ge=0)] = 100
    max_open_quotes: Annotated[int, Field(ge=0)] = 20
    allow_hot_treasury: bool = False
    body_max_bytes: Annotated[int, Field(ge=1024, le=16 * 2**20)] = 65_536
    content_max_bytes: Annotated[int, Field(ge=1024, le=64 * 2**20)] = 2**20
    content_retention: Annotated[int, Field(ge=0, le=10 * 365 * 86400)] = 7 * 86400
    body_timeout: Annotated[float, Field(gt=0, le=300)] = 10.0
    handler_timeout: Annotated[float, Field(gt=0, le=86400)] = 3600.0
    handlers_at_once: Annotated[int, Field(ge=1, le=1000)] = 8
    push_allow_private: bool = False
    push_timeout: Annotated[float, Field(gt=0, le=60)] = 10.0
    push_schedule: str = "0,10,60,300,1800"
    push_at_once: Annotated[int, Field(ge=1, le=1000)] = 32
    push_per_host: Annotated[int, Field(ge=1, le=100)] = 2
    loop_interval: Annotated[float, Field(gt=0, le=60)] = 1.0
    auth_secret_file: Path | None = None
    operators: Words = ()
    workers: Words = ()
    auditors: Words = ()
    max_streams: Annotated[int, Field(ge=0, le=100_000)] = 1000
    work_lease: Annotated[int, Field(ge=1, le=86400)] = 300
    hook_timeout: Annotated[float, Field(gt=0, le=60)] = 5.0
    screen: Annotated[str, Field(pattern=r"^([\w.]+:\w+)?$")] = ""
    scan_interval: Annotated[float, Field(ge=0, le=60)] = 2.0
    scan_blocks: Annotated[int, Field(ge=1, le=100_000)] = 2000
    witnesses: Witnesses = ()
    witness_quorum: Annotated[int, Field(ge=0)] = 0
    witness_interval: Annotated[float, Field(gt=0, le=86400)] = 10.0
    continues: Annotated[
        str, Field(pattern=r"^$|^[A-Za-z0-9._/-]{1,160} [1-9][0-9]{0,15} [0-9a-f]{64}$")
    ] = ""
    dev_chain: bool = False
    aether_auth: AetherAuth = "strict"
    compat_batch: Annotated[int, Field(ge=1, le=500)] = 20
    solana_network: SolanaNetwork = "devnet"
    solana_payment_address: SolanaAddress = ""
    solana_rpc_url: Endpoint = ""
    solana_usdc_mint: SolanaAddress = ""
    commission_bps: Annotated[int, Field(ge=0, le=10_000)] = 1000
    proposal_timeout: Annotated[int, Field(ge=60, le=365 * 86400)] = 30 * 86400

    @field_validator(
        "rpc_urls", "trusted_proxies", "operators", "workers", "auditors", mode="before"
    )
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(word.strip() for word in value.split(",") if word.strip())
        return value

    @field_validator("payment_address", "recovery_address")
    @classmethod
    def _address(cls, text: str) -> str:
        if not text:
            raise _problem("an address is needed; its key stays elsewhere")
        try:
            parse_address(text)
        except InvalidInput as error:
            raise _problem(error.message) from error
        return text

    @field_validator("arbiter")
    @classmethod
    def _wallet(cls, text: str) -> str:
        try:
            return parse_address(text) if text else ""
        except InvalidInput as error:
            raise _problem(error.message) from error

    @field_validator("operators", "workers", "auditors")
    @classmethod
    def _wallets(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(parse_address(word) for word in words)
        except InvalidInput as error:
            raise _problem(error.message) from error

    @field_validator("public_url")
    @classmethod
    def _below_prefix(cls, text: str, info: ValidationInfo) -> str:
        prefix = str(info.data.get("path_prefix", ""))
        if text and not text.endswith(prefix):
            raise _problem(f"it has to end with LEDGER_PATH_PREFIX, {prefix}")
        return text

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        for word in words:
            try:
                ip_network(word, strict=False)
            except ValueError as error:
                raise _problem(str(error)) from error
        return words

    @field_validator("safe_above_usdc")
    @classmethod
    def _amount(cls, amount: Decimal | None) -> Decimal | None:
        try:
            _ = None if amount is None else micros_of_usdc(amount)
        except InvalidInput as error:
            raise _problem(error.message) from error
        return amount

    @field_validator("content_retention")
    @classmethod
    def _retention(cls, seconds: int) -> int:
        if 0 < seconds < MIN_RETENTION:
            raise _problem(f"content stays for {MIN_RETENTION} seconds at least; 0 is for ever")
        return seconds

    @field_validator("witness_quorum")
    @classmethod
    def _attainable(cls, quorum: int, info: ValidationInfo) -> int:
        count = len(info.data.get("witnesses", ()))
        if quorum > count and "witnesses" in info.data:
            raise _problem(f"there are {count} in LEDGER_WITNESSES")
        return quorum

    @field_validator("aether_auth")
    @classmethod
    def _open_here_alone(cls, auth: AetherAuth, info: ValidationInfo) -> AetherAuth:
        return check_open(auth, info.data)

    @field_validator("push_schedule")
    @classmethod
    def _delays(cls, text: str) -> str:
        try:
            delays = [float(word) for word in text.split(",")]
        except ValueError as error:
            raise _problem("a comma list of seconds is needed") from error
        if not all(0 <= delay <= MAX_PUSH_DELAY for delay in delays):
            raise _problem(f"a delay lies between 0 and {MAX_PUSH_DELAY} seconds")
        return text

    @field_validator("catalog")
    @classmethod
    def _file(cls, path: Path) -> Path:
        if not path.is_file():
            raise _problem(f"{path} is no file")
        return path

    @property
    def chain_id(self) -> int:
        """The EIP-155 number of the network."""
        return CHAIN_IDS[self.network]

    @property
    def chain(self) -> str:
        """The CAIP-2 name of the network."""
        return f"eip155:{self.chain_id}"

    @property
    def token(self) -> str:
        """The USDC contract of the network."""
        return USDC[self.network]

    @property
    def solana_chain(self) -> str:
        """The CAIP-2 name of the Solana network."""
        return SOLANA_CHAINS[self.solana_network]

    @property
    def solana_usdc(self) -> str:
        """The mint that the marketplace is paid in."""
        return self.solana_usdc_mint or SOLANA_USDC[self.solana_network]

    @property
    def guard_path(self) -> Path:
        """Where the last signed head lies: outside the data folder and its backups."""
        return self.guard_file or self.data_dir.absolute().with_name(self.data_dir.name + ".guard")

    @property
    def signer_source(self) -> str:
        """Where the wallet's key comes from."""
        return self.signer or f"file:{self.data_dir / 'keys' / 'provider.json'}"

    @property
    def log_key_source(self) -> str:
        """Where the log's Ed25519 seed comes from."""
        return self.log_key or f"file:{self.data_dir / 'keys' / 'log.json'}"

    @property
    def auth_secret_source(self) -> str:
        """Where the secret comes from that tokens are made with."""
        return f"file:{self.auth_secret_file or self.data_dir / 'keys' / 'auth.json'}"

    @property
    def payment_account(self) -> str:
        """The CAIP-10 account that payments go to."""
        return evm_account(self.chain_id, self.payment_address)

    @property
    def safe_above_micros(self) -> int | None:
        """Above this amount a payment needs a `safe` block, in micro-USDC."""
        return None if self.safe_above_usdc is None else micros_of_usdc(self.safe_above_usdc)

    @property
    def push_delays(self) -> tuple[float, ...]:
        """The seconds before each attempt of a push; there are as many attempts as delays."""
        return tuple(float(word) for word in self.push_schedule.split(","))

    @property
    def allowed_origins(self) -> tuple[str, ...]:
        """The sites whose pages may read the answers; `*` for all of them."""
        return words_of(self.cors_origins)

    @property
    def proxy_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The peers whose forwarding headers are believed."""
        return tuple(ip_network(word, strict=False) for word in self.trusted_proxies)


def load_settings(**overrides: object) -> Settings:
    """Return the settings, or raise one `Misconfigured` that names every problem."""
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]  # pydantic checks each one
    except ValidationError as error:
        lines = [
            f"LEDGER_{'_'.join(str(part) for part in e['loc']).upper()}: {e['msg']}"
            for e in error.errors(include_url=False)
        ]
        raise Misconfigured("\n".join(lines)) from error


def _problem(text: str) -> PydanticCustomError:
    """Return an error that is shown in these words."""
    return PydanticCustomError("setting", "{text}", {"text": text})
