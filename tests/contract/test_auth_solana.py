"""Signing in with a Solana wallet, tokens for URLs, and what such a wallet signs of its order."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64decode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import base58
import pytest
import pytest_asyncio

from api.keys import LEDGER, RUNNER, SETTINGS, TOKENS
from api.siwx_once import Once
from api.tokens import Role
from ledger.audit import audit
from ledger.commands import IssueQuote
from ledger.content import commitment, salted
from ledger.errors import Overloaded
from ledger.evidence_verify.checks import Checks
from ledger.evidence_verify.keys import Roots
from ledger.order_events import OrderQuoted
from ledger.values import UnixMs, evm_account, iso_of, new_order_id, order_stream
from tests.contract.callers import OPERATOR, PARTY, ROLES, Answer, Caller, signed_in
from tests.contract.kit import WAIT_SECONDS, MovableClock, Service, serving
from tests.support.solana_keys import SolanaKey

pytestmark = pytest.mark.asyncio(loop_scope="module")

ANNE: Final = SolanaKey("anne")
BERT: Final = SolanaKey("bert")
DAY_MS: Final = 24 * 3600 * 1000
PATHS: Final = ["/v1/auth/token", "/v1/auth/tokens"]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def clock() -> MovableClock:
    return MovableClock()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service(
    tmp_path_factory: pytest.TempPathFactory, clock: MovableClock
) -> AsyncIterator[Service]:
    async with serving(tmp_path_factory.mktemp("solana"), clock=clock, **ROLES) as running:
        yield running


def now_in(service: Service) -> str:
    return iso_of(service.app[LEDGER].clock())


def base58_of(data: bytes) -> str:
    return base58.b58encode(data).decode()


async def challenge(service: Service, address: str) -> str:
    answer = await Caller(service, "").post("/v1/auth/challenge", {"address": address})
    assert answer.status == 200, answer.body
    return str(answer.body["message"])


async def present(
    service: Service,
    message: str,
    signature: str,
    path: str = PATHS[0],
    **more: Any,  # noqa: ANN401 - members of JSON
) -> Answer:
    body = {"message": message, "signature": signature, **more}
    return await Caller(service, "").post(path, body)


async def with_solana(service: Service, key: SolanaKey, **more: Any) -> Caller:  # noqa: ANN401 - JSON
    """Return a caller who signed in with a Solana wallet."""
    message = await challenge(service, key.address)
    answer = await present(service, message, base58_of(key.raw(message.encode())), **more)
    assert answer.status == 200, answer.body
    return Caller(service, key.address, str(answer.body["token"]))


def payload_of(caller: Caller) -> dict[str, Any]:
    assert caller.token is not None
    text = caller.token.partition(".")[0]
    found: dict[str, Any] = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return found


# Signing in


async def test_the_text_names_the_solana_account_and_its_network(service: Service) -> None:
    host = service.url.removeprefix("http://")
    lines = (await challenge(service, ANNE.address)).split("\n")

    assert lines[:2] == [f"{host} wants you to sign in with your Solana account:", ANNE.address]
    assert lines[5] == f"URI: {service.url}"
    assert lines[6:8] == ["Version: 1", "Chain ID: solana:devnet"]


async def test_the_text_names_mainnet_where_that_is_set(tmp_path: Path) -> None:
    async with serving(tmp_path, solana_network="mainnet") as service:
        assert "\nChain ID: solana:mainnet\n" in await challenge(service, ANNE.address)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("form", ["base58", "base64", "hex", "0x hex"])
async def test_a_signature_in_each_form_signs_in(service: Service, form: str, path: str) -> None:
    message = await challenge(service, ANNE.address)
    raw = ANNE.raw(message.encode())
    forms = {
        "base58": base58_of(raw),
        "base64": b64encode(raw).decode(),
        "hex": raw.hex(),
        "0x hex": "0x" + raw.hex(),
    }

    answer = await present(service, message, forms[form], path)

    assert answer.status == 200
    assert answer.body["wallet"] == ANNE.address
    assert answer.body["roles"] == ["party"]
    assert "scope" not in answer.body
    again = await present(service, message, forms[form], path)
    assert again.outcome == (401, "CHALLENGE_INVALID")


@pytest.mark.parametrize(
    "address",
    ["", "1" * 31, "1" * 33, "1" * 44, ANNE.address[:-2], ANNE.address + "11", "0x12", "alice"],
)
async def test_what_is_no_address_gets_no_challenge(service: Service, address: str) -> None:
    answer = await Caller(service, "").post("/v1/auth/challenge", {"address": address})

    assert answer.outcome == (400, "INVALID_REQUEST")
    assert answer.body["details"] == {"field": "address"}


async def test_only_the_named_wallet_signs_and_only_our_text(service: Service) -> None:
    message = await challenge(service, ANNE.address)
    theirs = message.replace(ANNE.address, BERT.address)
    evm = Caller(service, PARTY)

    other = await present(service, message, base58_of(BERT.raw(message.encode())))
    swapped = await present(service, theirs, base58_of(BERT.raw(theirs.encode())))
    ethereum = message.replace("Solana account", "Ethereum account")
    renamed = await present(service, ethereum, base58_of(ANNE.raw(ethereum.encode())))
    elsewhere = message.replace("solana:devnet", "solana:mainnet")
    moved = await present(service, elsewhere, base58_of(ANNE.raw(elsewhere.encode())))
    wide = await present(service, message, evm.sign(message))
    narrow = await present(service, await evm.challenge(), base58_of(ANNE.raw(b"x")))

    assert other.outcome == wide.outcome == narrow.outcome == (401, "SIGNATURE_INVALID")
    for refused in (swapped, renamed, moved):
        assert refused.outcome == (401, "CHALLENGE_INVALID")
    # None of it has used the challenge up.
    good = await present(service, message, base58_of(ANNE.raw(message.encode())))
    assert good.status == 200


async def test_a_challenge_ends_for_a_solana_wallet_too(
    service: Service, clock: MovableClock
) -> None:
    message = await challenge(service, ANNE.address)
    clock.offset_ms += 5 * 60 * 1000

    answer = await present(service, message, base58_of(ANNE.raw(message.encode())))

    assert answer.outcome == (401, "CHALLENGE_INVALID")


async def test_a_solana_wallet_reads_its_own_feed_in_its_own_spelling(service: Service) -> None:
    anne = await with_solana(service, ANNE)

    assert (await anne.get(f"/v1/feeds/{ANNE.address}/events")).status == 200
    for other in (ANNE.address.lower(), ANNE.address.swapcase(), BERT.address, "provider"):
        assert (await anne.get(f"/v1/feeds/{other}/events")).status == 404
    party = await signed_in(service, PARTY)
    for mine in (party.address, party.address.lower(), party.address.upper()):
        assert (await party.get(f"/v1/feeds/{mine}/events")).status == 200


# Tokens for URLs


async def test_a_token_with_a_scope_opens_no_route_that_asks_for_a_role(service: Service) -> None:
    operator = Caller(service, OPERATOR)
    message = await operator.challenge()
    answer = await present(
        service, message, operator.sign(message), PATHS[1], scope="marketplace", days=90
    )
    scoped = Caller(service, OPERATOR, str(answer.body["token"]))

    assert (answer.status, answer.body["roles"], answer.body["scope"]) == (200, [], "marketplace")
    said = payload_of(scoped)
    assert (said["scope"], said["roles"]) == ("marketplace", [])
    assert said["exp"] - said["iat"] == 90 * DAY_MS
    evidence = f"/ledger/orders/{new_order_id()}/evidence"
    own = f"/v1/feeds/{operator.address}/events"
    for path in ("/v1/work", "/v1/feeds/provider/events", own, evidence):
        assert (await scoped.get(path)).outcome == (401, "UNAUTHORIZED")


async def test_a_scope_holds_for_a_day_unless_more_is_asked_for(service: Service) -> None:
    said = payload_of(await with_solana(service, ANNE, scope="marketplace"))

    assert said["exp"] - said["iat"] == DAY_MS
    assert said["wallet"] == ANNE.address


@pytest.mark.parametrize(
    "more",
    [
        {"days": 2},
        {"scope": "marketplace", "days": 0},
        {"scope": "marketplace", "days": 91},
        {"scope": "marketplace", "days": "2"},
        {"scope": "marketplace", "days": True},
        {"scope": "all"},
        {"scope": ""},
    ],
)
async def test_other_wishes_for_a_token_are_refused(service: Service, more: dict[str, Any]) -> None:
    message = await challenge(service, ANNE.address)

    answer = await present(service, message, base58_of(ANNE.raw(message.encode())), **more)

    assert answer.outcome == (400, "INVALID_REQUEST")


async def test_a_scoped_token_takes_back_itself_and_nothing_else(service: Service) -> None:
    whole, scoped = (
        await with_solana(service, ANNE),
        await with_solana(service, ANNE, scope="marketplace"),
    )
    other = payload_of(whole)["id"]

    for body in ({"wallet": ANNE.address}, {"token_id": other}):
        assert (await scoped.post("/v1/auth/revoke", body)).outcome == (403, "FORBIDDEN")
    assert (await scoped.post("/v1/auth/revoke", {})).status == 200
    assert (await scoped.post("/v1/auth/revoke", {})).outcome == (401, "UNAUTHORIZED")
    assert (await whole.get(f"/v1/feeds/{ANNE.address}/events")).status == 200


async def test_a_wallet_takes_back_all_its_tokens(service: Service, clock: MovableClock) -> None:
    whole = await with_solana(service, ANNE)
    scoped = await with_solana(service, ANNE, scope="marketplace", days=30)
    bert = await with_solana(service, BERT)
    clock.offset_ms += 1

    assert (await bert.post("/v1/auth/revoke", {"wallet": ANNE.address})).status == 403
    answer = await whole.post("/v1/auth/revoke", {"wallet": ANNE.address})

    assert answer.body == {"revoked": {"wallet": ANNE.address}}
    for token in (whole, scoped):
        assert (await token.post("/v1/auth/revoke", {})).outcome == (401, "UNAUTHORIZED")
    assert (await bert.get(f"/v1/feeds/{BERT.address}/events")).status == 200
    clock.offset_ms += 1
    fresh = await with_solana(service, ANNE)
    assert (await fresh.get(f"/v1/feeds/{ANNE.address}/events")).status == 200


async def test_what_is_remembered_has_an_end_and_is_never_forgotten_early() -> None:
    once, now = Once(3), UnixMs(1_000_000)

    assert [once.use(b"a", now + 60_000, now) for _ in range(2)] == [True, False]
    assert once.use(b"b", now + 120_000, now)
    assert once.use(b"c", now + 60_000, now)
    with pytest.raises(Overloaded):
        once.use(b"d", now + 60_000, now)
    assert not once.use(b"b", now + 120_000, UnixMs(now + 119_999))
    assert once.use(b"d", now + 180_000, UnixMs(now + 120_000))


# What a Solana wallet signs of its order


async def quoted(service: Service, client: str) -> str:
    """Return the id of an order of this account, as an order of the marketplace has one."""
    ledger, settings = service.app[LEDGER], service.app[SETTINGS]
    order_id, now = new_order_id(), ledger.clock()
    row = salted(order_stream(order_id), "description", "words")
    terms = OrderQuoted(
        service="text_echo",
        client=client,
        price=100_000,
        chain=settings.chain,
        token=settings.token,
        payment_address=settings.payment_address,
        pay_by=now // 1000 + 3600,
        deliver_by=now // 1000 + 7200,
        acceptance_window=3600,
        answer_window=3600,
        refund_policy="0" * 64,
        description_id=row.content_id,
    )
    command = IssueQuote(terms, {row.field: commitment(row)}, now)
    receipt = await ledger.execute(order_id, command, (row,))
    assert await service.app[RUNNER].wait_for(receipt.stream.position, WAIT_SECONDS)
    return order_id


async def event_of(caller: Caller, party: str, order_id: str) -> str:
    page = await caller.get(f"/v1/feeds/{party}/events?limit=1000")
    [found] = [e for e in page.body["events"] if e.get("order_id") == order_id]
    return str(found["event_id"])


def receipt_text(event_id: str, at: str) -> str:
    return f"Receipt: {event_id} | Kind: received | Hash: none | Timestamp: {at}"


async def test_a_receipt_of_a_solana_wallet_is_recorded_audited_and_in_the_bundle(
    service: Service,
) -> None:
    anne = await with_solana(service, ANNE)
    order_id = await quoted(service, ANNE.account)
    event_id, at = await event_of(anne, ANNE.address, order_id), now_in(service)
    raw, path = ANNE.raw(receipt_text(event_id, at).encode()), f"/v1/events/{event_id}/receipts"
    said = {"kind": "received", "at": at}

    forged = await anne.post(path, {**said, "signature": BERT.raw(b"x").hex()})
    wide = await anne.post(path, {**said, "signature": Caller(service, PARTY).sign("x")})
    given = await anne.post(path, {**said, "signature": base58_of(raw)})
    again = await anne.post(path, {**said, "signature": raw.hex()})

    assert forged.outcome == wide.outcome == (401, "SIGNATURE_INVALID")
    assert (given.status, again.status) == (201, 200)
    assert given.body["receiver"] == ANNE.address
    entry = json.loads(given.body["ledger"]["entry"])["event"]["body"]["receiver"]
    assert entry == {
        "text": receipt_text(event_id, at),
        "signature": f"ed25519:{raw.hex()}",
        "signer": ANNE.address,
    }
    ledger = service.app[LEDGER]
    async with service.session.get(
        f"{service.url}/ledger/orders/{order_id}/evidence",
        headers={"Authorization": f"Bearer {anne.token}"},
    ) as response:
        data = await response.read()
    roots = Roots()
    roots.origin, roots.log_keys = ledger.origin, [ledger.log_key.vkey]
    roots.wallets, roots.client = [ledger.signer.address], ANNE.address
    checks = Checks(data, roots)
    checks.run()
    assert [(o.name, o.text) for o in checks.outcomes if not o.holds] == []
    assert b"Ed25519 over the bytes of the file" in data
    settings = service.app[SETTINGS]
    report = audit(settings.data_dir / "ledger.db", settings.guard_path)
    assert report.findings == []
    assert report.checked["C16"] > 0


async def test_an_evm_order_takes_no_signature_of_64_bytes(service: Service) -> None:
    party = await signed_in(service, PARTY)
    order_id = await quoted(service, evm_account(84532, party.address))
    event_id, at = await event_of(party, party.address, order_id), now_in(service)
    raw = ANNE.raw(receipt_text(event_id, at).encode())

    answer = await party.post(
        f"/v1/events/{event_id}/receipts",
        {"kind": "received", "at": at, "signature": base58_of(raw)},
    )

    assert answer.outcome == (401, "SIGNATURE_INVALID")


TEXTS: Final = {
    "confirm": "Confirm delivery: {order} | Timestamp: {at}",
    "dispute": (
        "Dispute delivery: {order} | Reason: other | Hash: none | Statement: none | Timestamp: {at}"
    ),
    "dispute/withdraw": "Withdraw dispute: {order} | Timestamp: {at}",
}


def signed_body(order_id: str, text: str, signature: str, **inner: object) -> dict[str, object]:
    return {
        "protocol": "IVXP/1.1",
        "order_id": order_id,
        "signed_message": text,
        "signature": signature,
        **inner,
    }


@pytest.mark.parametrize("act", TEXTS)
async def test_what_the_orders_client_signs_is_judged_by_its_own_scheme(
    service: Service, act: str
) -> None:
    """The order is not so far: a good signature is told so, any other is told of itself."""
    order_id, nobody = await quoted(service, ANNE.account), Caller(service, "")
    text = TEXTS[act].format(order=order_id, at=now_in(service))
    path, raw = f"/ivxp/orders/{order_id}/{act}", ANNE.raw(text.encode())

    async def outcome(signature: str, **inner: object) -> tuple[int, str]:
        return (await nobody.post(path, signed_body(order_id, text, signature, **inner))).outcome

    second = (int.from_bytes(raw[32:], "little") + 2**252 + GROUP_REST).to_bytes(32, "little")
    good = [base58_of(raw), b64encode(raw).decode(), raw.hex(), "0x" + raw.hex()]
    bad = [
        base58_of(BERT.raw(text.encode())),
        base58_of(ANNE.raw(b"another text")),
        (raw[:32] + second).hex(),
        ("01" + "00" * 63),
        Caller(service, PARTY).sign(text),
        "",
    ]

    for signature in good:
        assert (await outcome(signature))[0] == 409
    for signature in bad:
        assert await outcome(signature) == (401, "SIGNATURE_INVALID")
    assert service.kinds(order_id) == ["quoted"]


GROUP_REST: Final = 27742317777372353535851937790883648493


@pytest.mark.parametrize(("act", "part"), [("confirm", "confirmation"), ("dispute", "dispute")])
async def test_the_signer_that_a_body_names_has_to_be_the_client(
    service: Service, act: str, part: str
) -> None:
    order_id, nobody = await quoted(service, ANNE.account), Caller(service, "")
    text = TEXTS[act].format(order=order_id, at=now_in(service))
    kind = {"confirm": "delivery_confirmation", "dispute": "delivery_dispute"}[act]
    found = {}
    for signer in (ANNE.address, BERT.address, "0x" + "ab" * 20, "alice"):
        inner = {"message": text, "signature": base58_of(ANNE.raw(text.encode()))}
        body = {"protocol": "IVXP/1.1", "message_type": kind, "order_id": order_id}
        body[part] = {**inner, "signer": signer}  # type: ignore[assignment]
        answer = await nobody.post(f"/ivxp/orders/{order_id}/{act}", body)
        found[signer] = answer.status

    assert list(found.values()) == [409, 401, 401, 400]


async def test_a_solana_order_takes_no_notice_of_payment(service: Service) -> None:
    order_id = await quoted(service, ANNE.account)
    tx_hash = "0x" + "12" * 32
    text = f"Order: {order_id} | Payment: {tx_hash} | Timestamp: {now_in(service)}"
    body = {
        "protocol": "IVXP/1.0",
        "order_id": order_id,
        "payment_proof": {
            "tx_hash": tx_hash,
            "from_address": "0x" + "ab" * 20,
            "network": "base-sepolia",
        },
        "signed_message": text,
        "signature": base58_of(ANNE.raw(text.encode())),
    }

    answer = await Caller(service, "").post("/ivxp/deliver", body)

    assert answer.outcome == (401, "SIGNATURE_INVALID")
    assert service.kinds(order_id) == ["quoted"]


async def test_a_solana_wallet_is_given_no_role(service: Service) -> None:
    token, caller = service.app[TOKENS].issue(ANNE.address, service.app[LEDGER].clock())

    assert caller.roles == {Role.PARTY}
    assert payload_of(Caller(service, "", token))["roles"] == ["party"]
