"""What the OpenAPI document says of who may ask: ways to prove it, and paths that hold a token."""

from __future__ import annotations

from typing import Final

from api.aether.proof import CAPABILITY_PART, SIGNATURE_HEADER, TIMESTAMP_HEADER, WALLET_HEADER
from api.openapi_schemas import Schema
from api.routes import Route

BEARER: Final = "bearer"
BASIC: Final = "basic"
SIGNED: Final = {
    "signed_wallet": (WALLET_HEADER, "The wallet that signs this request."),
    "signed_time": (TIMESTAMP_HEADER, "When it signs, in Unix milliseconds, at most 60 s off."),
    "signature": (
        SIGNATURE_HEADER,
        "Its signature, good once, over `METHOD:URL:timestamp:` and the SHA-256 of the body.",
    ),
}
"""Headers that prove a wallet together."""

SCHEMES: Final[Schema] = {
    BEARER: {
        "type": "http",
        "scheme": "bearer",
        "description": "A token of `POST /v1/auth/token`, made for one wallet.",
    },
    BASIC: {
        "type": "http",
        "scheme": "basic",
        "description": "A wallet, and the token that was made for it.",
    },
    **{
        scheme: {"type": "apiKey", "in": "header", "name": name, "description": text}
        for scheme, (name, text) in SIGNED.items()
    },
}

_IN_PATH: Final = f"{{{CAPABILITY_PART}}}"
_TOKEN: Final[Schema] = {
    "default": CAPABILITY_PART,
    "description": "A token with the scope `marketplace`; it proves the wallet as a header would.",
}


def security(route: Route, *, market_open: bool) -> list[Schema]:
    """Return the ways to prove who asks, any of which will do; none where nobody has to."""
    if not is_for_wallets(route):
        return [{BEARER: [str(role)]} for role in sorted(route.roles)]
    ways: list[Schema] = [{BEARER: []}, {BASIC: []}, {scheme: [] for scheme in SIGNED}]
    return [{}, *ways] if market_open else ways


def is_for_wallets(route: Route) -> bool:
    """Whether a wallet has to be proven, in whatever way; one of them is a token in the path."""
    return any(_IN_PATH in mount for mount in route.mounts)


def mounts_text(route: Route) -> str:
    """Return where else the path stands; empty where it stands once."""
    names = [f"`{mount}`" for mount in route.mounts if mount]
    if not names:
        return ""
    text = f"The same below {', '.join(names[:-1])} and {names[-1]}"
    return f"\n\n{text}, where the token is in the path and nothing else need prove the wallet."


def servers(route: Route, server: str) -> list[Schema]:
    """Return the URLs that the path stands behind."""
    root = server.rstrip("/")
    return [
        {"url": f"{root}{mount}" or "/"}
        | ({"variables": {CAPABILITY_PART: _TOKEN}} if _IN_PATH in mount else {})
        for mount in route.mounts
    ]
