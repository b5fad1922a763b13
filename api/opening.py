"""What the ledger opens with: its keys, made or loaded, and the settings that its genesis fixes."""

from __future__ import annotations

from typing import Final

from api.config import Settings
from api.tokens import Revoked, Tokens
from ledger.errors import Misconfigured
from ledger.event import TreeHead
from ledger.log_events import Continues
from ledger.service import Clock, LedgerConfig
from ledger.signing import Signer, load_secret

LEDGER_FILE: Final = "ledger.db"
REVOKED_FILE: Final = "revoked.json"


def ledger_config(settings: Settings, clock: Clock) -> LedgerConfig:
    """Return what the ledger opens with; loads or makes the keys."""
    wallet = _secret(settings, "SIGNER", settings.signer_source)
    _refuse_hot_treasury(settings, wallet)
    return LedgerConfig(
        data_dir=settings.data_dir,
        guard_file=settings.guard_path,
        origin=settings.origin,
        network=settings.network,
        wallet_secret=wallet,
        log_seed=_secret(settings, "LOG_KEY", settings.log_key_source),
        payment_address=settings.payment_account,
        recovery_address=settings.recovery_address.lower(),
        dev_chain=settings.dev_chain,
        clock=clock,
        continues=_continues(settings.continues),
    )


def open_tokens(settings: Settings) -> Tokens:
    """Return the tokens; a secret that was lost may be made anew: everybody signs in again."""
    try:
        secret = load_secret(settings.auth_secret_source)
    except OSError as error:
        raise Misconfigured(f"LEDGER_AUTH_SECRET_FILE: {error}") from error
    return Tokens(secret, settings, Revoked(settings.data_dir / REVOKED_FILE))


def _secret(settings: Settings, name: str, source: str) -> bytes:
    opened = (settings.data_dir / LEDGER_FILE).exists()
    try:
        return load_secret(source, may_create=not opened)
    except OSError as error:
        raise Misconfigured(f"LEDGER_{name}: {error}") from error


def _refuse_hot_treasury(settings: Settings, wallet: bytes) -> None:
    """Refuse to hold a key that can move money, except on a dev chain or by consent."""
    same = settings.payment_address.lower() == Signer(wallet).address
    if same and not settings.dev_chain and not settings.allow_hot_treasury:
        raise Misconfigured(
            "PAYMENT_ADDRESS is the signing wallet, whose key this service holds; use another "
            "address, or set LEDGER_ALLOW_HOT_TREASURY"
        )


def _continues(text: str) -> Continues | None:
    """Return the closed log that a new one carries on; the form was checked with the settings."""
    if not text:
        return None
    origin, size, root = text.split(" ")
    return Continues(origin=origin, head=TreeHead(size=int(size), root=root))
