"""Tokens: who a caller proved to be, for a day, and the list of those that were taken back.

A token is `base64url(payload).hex(HMAC-SHA-256)`. The payload can be read by its holder and
changed by nobody without the secret.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import secrets
import threading
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal

import orjson

from api.config import Settings
from ledger.errors import LedgerError, Misconfigured
from ledger.values import UnixMs

DAY_MS: Final = 24 * 3600 * 1000
MAX_ARBITER_DAYS: Final = 90
MAX_SCOPED_DAYS: Final = 90
MAX_LIFE_MS: Final = max(MAX_ARBITER_DAYS, MAX_SCOPED_DAYS) * DAY_MS
"""No token holds longer."""
MAX_TOKEN_CHARACTERS: Final = 2048
_TOKEN: Final = re.compile(r"(?P<payload>[A-Za-z0-9_-]+)\.(?P<mac>[0-9a-f]{64})", re.ASCII)
_PURPOSE: Final = b"ivxp-ledger-token/1\n"
_DIGEST: Final = b"ivxp-ledger-digest/1\n"


Scope = Literal["marketplace"]
"""What alone a token opens that was asked for so: it may then stand where a URL is kept."""


class TokenRefused(LedgerError):
    """No token was sent, or one that does not hold (any more)."""

    code = "UNAUTHORIZED"


class Forbidden(LedgerError):
    """The caller is known and may not do this."""

    code = "FORBIDDEN"


class Role(StrEnum):
    """What a wallet may ask for. Every wallet is a party: of its own orders, nothing else."""

    PARTY = "party"
    WORKER = "worker"
    AUDITOR = "auditor"
    OPERATOR = "operator"
    ARBITER = "arbiter"
    """Reads one order, and only with a token that was made for it."""


@dataclass(frozen=True, slots=True)
class Caller:
    """What a token says: a wallet in its one spelling, its roles, from when to when it holds."""

    token_id: str
    wallet: str
    roles: frozenset[Role]
    issued_ms: int
    expires_ms: int
    order: str | None = None
    """The only order that the token opens; None of a token that is not for one."""
    issuer: str | None = None
    """Whose token such a token was made with: it ends with that wallet's."""
    scope: Scope | None = None
    """Such a token has no role, and no route that asks for one takes it."""


def roles_of(settings: Settings, wallet: str) -> frozenset[Role]:
    """Return the roles that the settings give a wallet."""
    lists = {
        Role.OPERATOR: settings.operators,
        Role.WORKER: settings.workers,
        Role.AUDITOR: settings.auditors,
    }
    return frozenset({Role.PARTY, *(role for role, held in lists.items() if wallet in held)})


class Tokens:
    """Makes tokens and reads them back."""

    def __init__(self, secret: bytes, settings: Settings, revoked: Revoked) -> None:
        self._secret = secret
        self._settings = settings
        self.revoked: Final = revoked

    def issue(
        self, wallet: str, now: UnixMs, *, scope: Scope | None = None, days: int = 1
    ) -> tuple[str, Caller]:
        """Return a fresh token for a wallet that has proven itself."""
        roles = frozenset[Role]() if scope else roles_of(self._settings, wallet)
        until = now + days * DAY_MS
        caller = Caller(secrets.token_hex(16), wallet, roles, now, until, scope=scope)
        return self._made(caller), caller

    def issue_for_order(
        self, arbiter: str, order_id: str, days: int, now: UnixMs, *, issuer: str
    ) -> tuple[str, Caller]:
        """Return a fresh token that reads one order, for whoever is to judge it."""
        roles = frozenset({Role.ARBITER})
        until = now + days * DAY_MS
        token_id = self._given_id(secrets.token_hex(8), issuer)
        caller = Caller(token_id, arbiter, roles, now, until, order_id, issuer)
        return self._made(caller), caller

    def is_given_by(self, token_id: str, wallet: str) -> bool:
        """Whether a wallet gave this token to an arbiter: the id itself says by whom."""
        return hmac.compare_digest(token_id, self._given_id(token_id[:16], wallet))

    def _given_id(self, chosen: str, issuer: str) -> str:
        return chosen + self.digest(b"given", f"{chosen} {issuer}".encode())[:8].hex()

    def _made(self, caller: Caller) -> str:
        payload: dict[str, object] = {
            "aud": self._settings.origin,
            "id": caller.token_id,
            "wallet": caller.wallet,
            "roles": sorted(caller.roles),
            "iat": caller.issued_ms,
            "exp": caller.expires_ms,
        }
        if caller.order is not None:
            payload |= {"order": caller.order, "by": caller.issuer}
        if caller.scope is not None:
            payload["scope"] = caller.scope
        text = urlsafe_b64encode(orjson.dumps(payload)).rstrip(b"=")
        return f"{text.decode()}.{self._mac(text)}"

    def read(self, token: str, now: UnixMs) -> Caller:
        """Return who the token stands for, or raise `TokenRefused`.

        The roles are those that both the token and the present settings name: who leaves a list
        loses the role at the next start, whatever tokens are about.
        """
        match = _TOKEN.fullmatch(token) if len(token) <= MAX_TOKEN_CHARACTERS else None
        if match is None:
            raise TokenRefused("this is no token of this service")
        payload = match["payload"].encode()
        if not hmac.compare_digest(self._mac(payload), match["mac"]):
            raise TokenRefused("this is no token of this service")
        caller = self._caller(payload)
        if now >= caller.expires_ms:
            raise TokenRefused("the token has expired; sign in again")
        if self.revoked.holds(caller):
            raise TokenRefused("the token was revoked; sign in again")
        return caller

    def digest(self, purpose: bytes, data: bytes) -> bytes:
        """Return 32 bytes that stand for data, and that nobody without the secret can make."""
        return hmac.new(self._secret, _DIGEST + purpose + b"\n" + data, sha256).digest()

    def _mac(self, payload: bytes) -> str:
        return hmac.new(self._secret, _PURPOSE + payload, sha256).hexdigest()

    def _caller(self, payload: bytes) -> Caller:
        """Return what a payload says that we made, if it was made for this ledger."""
        said = orjson.loads(urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
        if said["aud"] != self._settings.origin:
            raise TokenRefused("the token is for another ledger")
        order, by, scope = said.get("order"), said.get("by"), said.get("scope")
        granted = {Role.ARBITER} if order else roles_of(self._settings, said["wallet"])
        roles = frozenset(role for role in granted if role in said["roles"])
        told = (said["id"], said["wallet"], roles, said["iat"], said["exp"])
        return Caller(*told, order=order, issuer=by, scope=scope)


class Revoked:
    """The tokens that were taken back, in a small file beside the ledger.

    It is neither a truth of the orders, so it is no event, nor disposable, so it is no view. An
    entry is kept as long as what it takes back could still hold, so the file stays small.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changing = threading.Lock()
        self._tokens: dict[str, int] = {}
        self._wallets: dict[str, int] = {}
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
            self._tokens.update(held["tokens"])
            self._wallets.update(held["wallets"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            # Going on without it would bring revoked tokens back to life.
            raise Misconfigured(f"{path} is no list of revoked tokens: {error}") from error

    def holds(self, caller: Caller) -> bool:
        """Whether a token was taken back, alone or with all others of its wallet."""
        if caller.token_id in self._tokens:
            return True
        # A token for one order proves no wallet; it stands and falls with the one that gave it.
        wallet = caller.wallet if caller.order is None else caller.issuer
        return caller.issued_ms <= self._wallets.get(wallet or "", -1)

    def token(self, token_id: str, until: UnixMs, now: UnixMs) -> None:
        """Take back one token; `until` is when it would have ended, at the latest."""
        with self._changing:
            self._tokens[token_id] = until
            self._save(now)

    def wallet(self, wallet: str, now: UnixMs) -> None:
        """Take back every token that a wallet signed in for, and all that it gave to arbiters."""
        with self._changing:
            self._wallets[wallet] = now
            self._save(now)

    def _save(self, now: UnixMs) -> None:
        self._tokens = {t: until for t, until in self._tokens.items() if now < until}
        self._wallets = {w: at for w, at in self._wallets.items() if now - at < MAX_LIFE_MS}
        fresh = self._path.with_suffix(".new")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(orjson.dumps({"tokens": self._tokens, "wallets": self._wallets}))
            file.flush()
            os.fsync(file.fileno())
        # A crash before the rename leaves the old list and an unanswered request, which is asked
        # again; one after it leaves the new list.
        fresh.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
