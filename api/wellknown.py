"""Proof that this service holds its wallet's key, for directories that list providers.

It is no signing oracle: it signs `ivxp-claim:` and a UUID, and nothing that is worth anything.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from aiohttp import web
from pydantic import BaseModel, Field, StringConstraints

from api.answers import json_response
from api.body import read_model
from api.ivxp.models import Message
from api.keys import LEDGER
from api.routes import Route
from ledger.errors import InvalidInput
from ledger.signing import CLAIM_PREFIX

_CLAIM: Final = re.compile(
    CLAIM_PREFIX.decode() + r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    re.ASCII,
)


class WalletMismatch(InvalidInput):
    """The claim is for another wallet than the one whose key this service holds."""

    code = "WALLET_MISMATCH"


class VerifyRequest(Message):
    """POST /.well-known/ivxp-verify."""

    # Another text is refused with a code of its own, so the form is described and not required.
    challenge: Annotated[str, Field(json_schema_extra={"pattern": f"^{_CLAIM.pattern}$"})]
    wallet_address: Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{40}$")] | None = None


class VerifyResponse(BaseModel):
    """The challenge with the wallet's EIP-191 signature over it."""

    challenge: str
    signer: str
    signature: str


async def post_verify(request: web.Request) -> web.Response:
    """Sign a claim challenge for our own wallet; every other text is refused."""
    said = await read_model(request, VerifyRequest)
    if not _CLAIM.fullmatch(said.challenge):
        msg = "only ivxp-claim: and a lower-case UUID is signed"
        raise InvalidInput(msg, code="CHALLENGE_NOT_SIGNABLE")
    signer = request.app[LEDGER].signer
    if said.wallet_address is not None and said.wallet_address.lower() != signer.address:
        raise WalletMismatch("this service holds the key of another wallet")
    body = {
        "challenge": said.challenge,
        # In the caller's own letters: some compare addresses as text.
        "signer": said.wallet_address or signer.address,
        "signature": signer.sign(said.challenge.encode()),
    }
    return json_response(body)


WELL_KNOWN_ROUTES: Final = [
    Route(
        "POST",
        "/.well-known/ivxp-verify",
        post_verify,
        "Prove the wallet",
        request=VerifyRequest,
        response=VerifyResponse,
        writes=True,
        errors=frozenset({WalletMismatch}),
    )
]
