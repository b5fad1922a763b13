"""How the marketplace SDK speaks HTTP: joined strings, few headers, and what its program adds."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final
from urllib.parse import quote, quote_plus, urlsplit

import aiohttp
import base58
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from yarl import URL

Json = dict[str, Any]
Arrival = Callable[[str, str], Awaitable[None]]
"""Told method and path when an answer is there, before the client gets it; may wait or raise."""

_HEADERS: Final = {
    "Accept": "application/json, text/plain, */*",
    "User-Agent": "axios/1.12.2",
    "Accept-Encoding": "gzip, compress, deflate, br",
}
_KEPT_IN_QUERY: Final = "!'()*~:$,"
_KEPT_IN_USERINFO: Final = "!$&'()*+,-._~%"


@dataclass(frozen=True)
class SolanaWallet:
    """A key pair of Solana, made of a name."""

    name: str

    @property
    def key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)

    @property
    def seed(self) -> bytes:
        return sha256(b"aether wallet\n" + self.name.encode()).digest()

    @property
    def public(self) -> bytes:
        return self.key.public_key().public_bytes_raw()

    @property
    def secret(self) -> bytes:
        """The 64 bytes that Solana's tools call the secret key."""
        return self.seed + self.public

    @property
    def address(self) -> str:
        return base58.b58encode(self.public).decode()

    def sign(self, text: str) -> str:
        """Return the signature over a text's UTF-8 bytes, in base58."""
        return base58.b58encode(self.key.sign(text.encode())).decode()


class ApiError(Exception):
    """An answer outside 2xx, as the SDK's HTTP library throws it."""

    def __init__(self, status: int, data: object) -> None:
        super().__init__(f"Request failed with status code {status}: {str(data)[:300]}")
        self.status = status
        self.data = data

    @property
    def outcome(self) -> tuple[int, str]:
        """The status, and the code in the body."""
        return self.status, str(member(self.data, "error"))


class LostReply(Exception):
    """The request went out and may have had its effect; its answer never came."""


async def _at_once(_method: str, _path: str) -> None:
    return


@dataclass
class Wire:
    """One program's way to the marketplace.

    `base_url` may carry credentials or a token: the paths are put behind it as they are. With
    `signer` the program adds the signed headers of the documents; the SDK itself adds none.
    """

    session: aiohttp.ClientSession
    base_url: str
    signer: SolanaWallet | None = None
    now_ms: Callable[[], int] = lambda: int(time.time() * 1000)
    arrival: Arrival = _at_once
    sent: list[str] = field(default_factory=list)
    _stamped_ms: int = 0

    async def get(self, path: str, **query: object) -> Any:  # noqa: ANN401 - JSON
        return await self.call("GET", path + query_text(query), None)

    async def post(self, path: str, body: Json) -> Any:  # noqa: ANN401 - JSON
        return await self.call("POST", path, body)

    async def put(self, path: str, body: Json) -> Any:  # noqa: ANN401 - JSON
        return await self.call("PUT", path, body)

    async def call(self, method: str, path: str, body: Json | None) -> Any:  # noqa: ANN401 - JSON
        data = b"" if body is None else json_text(body).encode()
        url, headers = self._asked(method, self.base_url + path, data)
        if body is not None:
            headers["Content-Type"] = "application/json"
        self.sent.append(f"{method} {path.partition('?')[0]}")
        async with self.session.request(
            method, URL(url, encoded=True), data=data or None, headers=headers
        ) as response:
            raw = await response.read()
        await self.arrival(method, path)
        found = _lenient(raw)
        if not 200 <= response.status < 300:
            raise ApiError(response.status, found)
        return found

    def _asked(self, method: str, url: str, data: bytes) -> tuple[str, dict[str, str]]:
        """Return the address without its credentials, and the headers."""
        parts, headers = urlsplit(url), dict(_HEADERS)
        userinfo, at, host = parts.netloc.rpartition("@")
        if at:
            # The library takes them as an address has them: percent signs stay, and come of others.
            userinfo = quote(userinfo, safe=_KEPT_IN_USERINFO + ":")
            headers["Authorization"] = "Basic " + b64encode(userinfo.encode()).decode()
        asked = parts._replace(netloc=host).geturl()
        if self.signer is not None:
            headers |= signed_headers(self.signer, method, asked, data, self._stamp())
        return asked, headers

    def _stamp(self) -> int:
        """Return the time, but no millisecond twice: a signature is good for one request."""
        self._stamped_ms = max(self.now_ms(), self._stamped_ms + 1)
        return self._stamped_ms


def signed_headers(
    wallet: SolanaWallet, method: str, url: str, data: bytes, now_ms: int
) -> dict[str, str]:
    """Return the three headers with which a wallet signs one request to a whole URL."""
    text = f"{method}:{url}:{now_ms}:{sha256(data).hexdigest()}"
    return {
        "X-Wallet-Address": wallet.address,
        "X-Signature": wallet.sign(text),
        "X-Timestamp": str(now_ms),
    }


def with_credentials(base_url: str, wallet: str, token: str) -> str:
    """Return a base URL that has the wallet as its user and the token as the password."""
    parts = urlsplit(base_url)
    user = quote(wallet, safe=_KEPT_IN_USERINFO)
    return parts._replace(
        netloc=f"{user}:{quote(token, safe=_KEPT_IN_USERINFO)}@{parts.netloc}"
    ).geturl()


def with_token(url: str, token: str, prefix: str = "") -> str:
    """Return a base URL whose path is the capability."""
    return f"{url}/t/{token}{prefix}"


async def sign_in(
    session: aiohttp.ClientSession,
    url: str,
    wallet: SolanaWallet,
    scope: str | None = "marketplace",
) -> str:
    """Return a token of a wallet, for the marketplace alone; done once, outside the SDK."""
    async with session.post(f"{url}/v1/auth/challenge", json={"address": wallet.address}) as asked:
        assert asked.status == 200, await asked.text()
        message = (await asked.json())["message"]
    said = {"message": message, "signature": wallet.sign(message)}
    if scope is not None:
        said["scope"] = scope
    async with session.post(f"{url}/v1/auth/token", json=said) as given:
        assert given.status == 200, await given.text()
        return str((await given.json())["token"])


def member(data: object, name: str) -> Any:  # noqa: ANN401 - JSON
    """Return a member, or None of what has none; a text has no members either."""
    return data.get(name) if isinstance(data, dict) else None


def rows(data: object, name: str) -> list[Any]:
    """Return the list that a reply holds; without one it is empty, as in the SDK."""
    return member(data, name) or []


def json_text(value: object) -> str:
    """Write JSON as JavaScript does: no member that is undefined, 2.0 is 2."""
    return json.dumps(_as_written(value), ensure_ascii=False, separators=(",", ":"))


def query_text(query: Json) -> str:
    """Write a query as the SDK's library does; what is undefined is left out."""
    parts = [
        f"{name}={quote_plus(_text(value), safe=_KEPT_IN_QUERY)}"
        for name, value in query.items()
        if value is not None
    ]
    return "?" + "&".join(parts) if parts else ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else json_text(value)


def _as_written(value: object) -> object:
    if isinstance(value, dict):
        return {name: _as_written(each) for name, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_as_written(each) for each in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _lenient(raw: bytes) -> object:
    """Return JSON, or the text itself where it is none: the library does not mind."""
    text = raw.decode()
    try:
        return json.loads(text)
    except ValueError:
        return text
