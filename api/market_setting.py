"""The forms of the marketplace's settings: Solana addresses and endpoints, and who may be open."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from ledger.wallets import is_solana

AetherAuth = Literal["strict", "open"]
SolanaNetwork = Literal["devnet", "mainnet"]

_MAX_URL: Final = 2048


def _check_address(text: str) -> str:
    if text and not is_solana(text):
        raise _refused("a Solana address is the base58 of 32 bytes")
    return text


def _check_endpoint(text: str) -> str:
    """Like any RPC endpoint it may hold a key: in its path, its query, or before the host."""
    if text and not _is_url(text):
        # The text itself may be a secret, so it is not repeated.
        raise _refused("an http or https URL is needed")
    return text


def _is_url(text: str) -> bool:
    printable = text.isascii() and text.isprintable() and " " not in text
    try:
        parts = urlsplit(text)
        is_whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return printable and is_whole and len(text) <= _MAX_URL


def check_open(auth: AetherAuth, others: Mapping[str, object]) -> AetherAuth:
    """Return the mode; claims that nobody proves are for a machine that only its owner reaches.

    `others` are the settings that hold so far. One that is not there was wrong, and is reported.
    """
    if auth == "strict":
        return auth
    if not is_loopback(str(others.get("host", "localhost"))):
        raise _refused("open is for a loopback LEDGER_HOST alone")
    if others.get("public_url") or others.get("trusted_proxies"):
        raise _refused("open goes with neither LEDGER_PUBLIC_URL nor LEDGER_TRUSTED_PROXIES")
    return auth


def is_loopback(host: str) -> bool:
    """Whether who listens there is reached from the same machine only."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _refused(text: str) -> PydanticCustomError:
    return PydanticCustomError("setting", "{text}", {"text": text})


SolanaAddress = Annotated[str, AfterValidator(_check_address)]
"""Empty, or a Solana address."""
Endpoint = Annotated[str, AfterValidator(_check_endpoint)]
"""Empty, or the URL of an RPC endpoint."""
