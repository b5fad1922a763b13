"""Signing in: a challenge of EIP-4361 for a token, renewed before it ends.

The challenge is read before it is signed. A service that hands out another text, a payment notice
or a challenge of somebody else's, gets no signature.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

from pydantic import BaseModel, ConfigDict

from api.client.errors import AnswerRefused, ServiceError
from api.client.http import HttpClient
from api.client.shapes import parsed
from api.client.times import Clock, system_clock
from api.client.wallet import Wallet
from ledger.errors import InvalidInput
from ledger.values import UnixMs, parse_iso

T = TypeVar("T")

RENEW_MS: Final = 10 * 60 * 1000
"""A token with less than this left is renewed, so that no request meets its end."""

_NOT_SIGNED_IN: Final = "UNAUTHORIZED"
_CHALLENGE: Final = re.compile(
    r"(?P<domain>[^\n]{1,300}) wants you to sign in with your Ethereum account:\n"
    r"(?P<address>0x[0-9a-fA-F]{40})\n\n[^\n]{1,400}\n\n"
    r"URI: [^\n]{1,300}\nVersion: 1\nChain ID: [0-9]{1,10}\nNonce: [0-9A-Za-z]{8,200}\n"
    r"Issued At: [0-9T:.+Z-]{19,40}\nExpiration Time: [0-9T:.+Z-]{19,40}",
    re.ASCII,
)


class _Challenge(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)
    message: str


class _Token(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)
    token: str
    expires_at: str


class SignIn:
    """One wallet's token at one service."""

    def __init__(
        self,
        http: HttpClient,
        wallet: Wallet,
        *,
        clock: Clock = system_clock,
        domain: str | None = None,
    ) -> None:
        """`domain` is the host that challenges have to name, if it is not that of the base URL."""
        self._http = http
        self._wallet = wallet
        self._clock = clock
        self._domain = (domain or http.authority).lower()
        self._token = ""
        self._ends = UnixMs(0)
        self._signing_in = asyncio.Lock()

    async def headers(self) -> dict[str, str]:
        """Return the header of a signed-in request."""
        return {"Authorization": f"Bearer {await self.token()}"}

    async def token(self) -> str:
        """Return a token that holds for some time, a kept one if there is one."""
        async with self._signing_in:
            if self._clock() + RENEW_MS >= self._ends:
                await self._renew()
            return self._token

    async def call(self, send: Callable[[Mapping[str, str]], Awaitable[T]]) -> T:
        """Send a signed-in request; if the token was taken back meanwhile, sign in once more."""
        try:
            return await send(await self.headers())
        except ServiceError as error:
            if error.code != _NOT_SIGNED_IN:
                raise
            self.forget()
            return await send(await self.headers())

    def forget(self) -> None:
        """Sign in anew with the next request: the service did not take this token."""
        self._ends = UnixMs(0)

    async def _renew(self) -> None:
        asked = {"address": self._wallet.address}
        answer = await self._http.post("/v1/auth/challenge", asked, repeatable=True)
        message = parsed(_Challenge, answer.json()).message
        self._require_ours(message)
        proof = {"message": message, "signature": self._wallet.sign_text(message)}
        # A challenge is good once: with a key, a lost answer does not cost it.
        answer = await self._http.post("/v1/auth/token", proof, key=secrets.token_hex(16))
        given = parsed(_Token, answer.json())
        try:
            self._ends = parse_iso(given.expires_at)
        except InvalidInput as error:
            raise AnswerRefused("the token's end is no time") from error
        self._token = given.token

    def _require_ours(self, message: str) -> None:
        match = _CHALLENGE.fullmatch(message)
        if match is None:
            raise AnswerRefused("the text to sign in with is no challenge; it was not signed")
        if match["domain"].lower() != self._domain:
            raise AnswerRefused(f"the challenge is for {match['domain']}, not for {self._domain}")
        if match["address"].lower() != self._wallet.address.lower():
            raise AnswerRefused("the challenge is for another wallet")
