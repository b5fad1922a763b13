"""The whitelist of texts that clients sign: each documented form, and what lies close to it."""

from __future__ import annotations

import pytest

from ledger.errors import InvalidInput, LedgerError, Unauthorized
from ledger.event import TreeHead
from ledger.texts import (
    DisputeText,
    EventReceiptText,
    NoticeText,
    ReceiptText,
    parse_dispute,
    parse_event_receipt,
    parse_notice,
    parse_receipt,
)
from ledger.values import UnixMs

ORDER = "ivxp-00000000-0000-4000-8000-000000000001"
TX = "0x" + "aB" * 32
ADDRESS = "0x" + "Cd" * 20
HASH = "0123456789abcdef" * 4
ROOT = "fe" * 32
TS = "2026-01-01T00:00:00.123Z"
MS = UnixMs(1767225600123)
NONCE = "nonce_-0123456789"

MINIMAL = f"Order: {ORDER} | Payment: {TX} | Timestamp: {TS}"
STRICT = f"IVXP-DELIVER | Order: {ORDER} | Payment: {TX} | Nonce: {NONCE} | Timestamp: {TS}"
HUB = f"IVXP Identity Verification | Order: {ORDER} | Address: {ADDRESS} | Timestamp: {MS}"
SDK_RECEIPT = f"Confirm delivery: {ORDER} | Timestamp: {TS}"
RECEIPT = f"Order: {ORDER} | Received: true | Hash: {HASH} | Timestamp: {TS}"
RECEIPT_WITH_HEAD = (
    f"Order: {ORDER} | Received: true | Hash: {HASH} | Head: 17:{ROOT} | Timestamp: {TS}"
)
OLD_RECEIPT = f"Order: {ORDER} | Received: {TS} | Satisfied: true"
DISPUTE = (
    f"Dispute delivery: {ORDER} | Reason: wrong_content | Hash: {HASH} | Statement: {ROOT}"
    f" | Timestamp: {TS}"
)
EMPTY_DISPUTE = (
    f"Dispute delivery: {ORDER} | Reason: not_delivered | Hash: none | Statement: none"
    f" | Timestamp: {TS}"
)

NOTICES = {
    MINIMAL: NoticeText(ORDER, MS, TX.lower(), None, None),
    STRICT: NoticeText(ORDER, MS, TX.lower(), NONCE, None),
    HUB: NoticeText(ORDER, MS, None, None, ADDRESS.lower()),
}
RECEIPTS = {
    SDK_RECEIPT: ReceiptText(ORDER, MS, None, None),
    RECEIPT: ReceiptText(ORDER, MS, HASH, None),
    RECEIPT_WITH_HEAD: ReceiptText(ORDER, MS, HASH, TreeHead(size=17, root=ROOT)),
    OLD_RECEIPT: ReceiptText(ORDER, MS, None, None),
}
DISPUTES = {
    DISPUTE: DisputeText(ORDER, MS, "wrong_content", HASH, ROOT),
    EMPTY_DISPUTE: DisputeText(ORDER, MS, "not_delivered", None, None),
    DISPUTE.replace("wrong_content", "other"): DisputeText(ORDER, MS, "other", HASH, ROOT),
}
PARSE = {
    **dict.fromkeys(NOTICES, parse_notice),
    **dict.fromkeys(RECEIPTS, parse_receipt),
    **dict.fromkeys(DISPUTES, parse_dispute),
}
EVERY = list(PARSE)
LONG_ID = "x" * 65


@pytest.mark.parametrize(("text", "said"), list(NOTICES.items()))
def test_each_notice_says_what_it_names(text: str, said: NoticeText) -> None:
    assert parse_notice(text) == said


@pytest.mark.parametrize(("text", "said"), list(RECEIPTS.items()))
def test_each_receipt_says_what_it_names(text: str, said: ReceiptText) -> None:
    assert parse_receipt(text) == said


@pytest.mark.parametrize(("text", "said"), list(DISPUTES.items()))
def test_each_dispute_says_what_it_names(text: str, said: DisputeText) -> None:
    assert parse_dispute(text) == said


EVENT_RECEIPT = f"Receipt: 17-{ROOT} | Kind: processed | Hash: {HASH} | Timestamp: {TS}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (EVENT_RECEIPT, EventReceiptText(17, ROOT, "processed", MS, HASH)),
        (
            EVENT_RECEIPT.replace(HASH, "none").replace("processed", "read"),
            EventReceiptText(17, ROOT, "read", MS, None),
        ),
        (
            EVENT_RECEIPT.replace(HASH, "sha256:" + HASH.upper()),
            EventReceiptText(17, ROOT, "processed", MS, HASH),
        ),
    ],
)
def test_each_receipt_for_an_event_says_what_it_names(text: str, said: EventReceiptText) -> None:
    assert parse_event_receipt(text) == said
    for parse in (parse_notice, parse_receipt, parse_dispute):
        with pytest.raises(Unauthorized):
            parse(text)


def test_a_near_miss_of_a_receipt_for_an_event_is_refused() -> None:
    other = {
        EVENT_RECEIPT.replace("17-", "0-"),
        EVENT_RECEIPT.replace("17-", "017-"),
        EVENT_RECEIPT.replace("17-", "-17-"),
        EVENT_RECEIPT.replace("17-", "1" * 16 + "-"),
        EVENT_RECEIPT.replace(ROOT, ROOT.upper()),
        EVENT_RECEIPT.replace(ROOT, ROOT[:-1]),
        EVENT_RECEIPT.replace("processed", "confirmed"),
        EVENT_RECEIPT.replace("processed", ""),
        EVENT_RECEIPT.replace(HASH, ""),
        EVENT_RECEIPT.replace(HASH, "null"),
        EVENT_RECEIPT.replace(TS, ""),
        EVENT_RECEIPT.replace(TS, "2026-02-30T00:00:00Z"),
    }
    for missed in (near_misses(EVENT_RECEIPT) | other | set(EVERY)) - {EVENT_RECEIPT}:
        with pytest.raises((Unauthorized, InvalidInput)) as refused:
            parse_event_receipt(missed)
        assert refused.value.code in ("SIGNATURE_INVALID", "INVALID_TIMESTAMP"), missed


@pytest.mark.parametrize("text", EVERY)
def test_a_text_is_taken_for_its_own_purpose_only(text: str) -> None:
    for parse in (parse_notice, parse_receipt, parse_dispute):
        if parse is not PARSE[text]:
            with pytest.raises(Unauthorized):
                parse(text)


@pytest.mark.parametrize("prefix", ["sha256:", "0x", ""])
def test_a_hash_may_have_a_prefix_and_is_read_without(prefix: str) -> None:
    text = RECEIPT.replace(HASH, prefix + HASH.upper())

    assert parse_receipt(text).content_hash == HASH


@pytest.mark.parametrize(
    "stamp",
    ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.123456+00:00", "2026-01-01T05:30:00.1+05:30"],
)
def test_a_stamp_may_have_any_form_that_clients_send(stamp: str) -> None:
    for text in (MINIMAL, SDK_RECEIPT, OLD_RECEIPT, DISPUTE):
        assert abs(PARSE[text](text.replace(TS, stamp)).stamp - MS) < 1000


def near_misses(text: str) -> set[str]:
    """Return texts that a careless reader would take for this one."""
    return {
        text + "\n",
        text + " ",
        " " + text,
        "\n" + text,
        text + "\r",
        text + "\0",
        "\ufeff" + text,
        text + " | Extra: 1",
        "Extra: 1 | " + text,
        text + "\n" + text,
        text[:-1],
        text[1:],
        text.upper(),
        text.replace(" | ", "|"),
        text.replace(" | ", " |  "),
        text.replace(": ", ":"),
        text.replace(" ", "\u00a0"),
        text.replace("|", "\u2502"),
        text.replace("0", "\u0660"),
        text.replace(ORDER, ""),
        text.replace(ORDER, LONG_ID),
        text.replace(ORDER, ORDER + " | Order: other"),
        text.replace(ORDER, "order/1"),
        text.replace(ORDER, "ivxp_1"),
        text.replace(ORDER, "ivxp-\u00e9"),
        text.replace(ORDER, "ivxp-e\u0301"),
    }


@pytest.mark.parametrize("text", EVERY)
def test_a_near_miss_is_refused(text: str) -> None:
    for missed in near_misses(text) | {""}:
        # What keeps the form of the text may fail by its time alone.
        with pytest.raises((Unauthorized, InvalidInput)) as refused:
            PARSE[text](missed)
        assert refused.value.code in ("SIGNATURE_INVALID", "INVALID_TIMESTAMP")


@pytest.mark.parametrize(
    "missed",
    [
        MINIMAL.replace(TX, TX[:-1]),
        MINIMAL.replace(TX, TX + "0"),
        MINIMAL.replace("0x", "0X"),
        MINIMAL.replace("0x", ""),
        MINIMAL.replace(TX, "0x" + "gg" * 32),
        MINIMAL.replace("Payment", "payment"),
        f"Payment: {TX} | Order: {ORDER} | Timestamp: {TS}",
        MINIMAL.replace(f" | Timestamp: {TS}", ""),
        "IVXP-DELIVER | " + MINIMAL,
        STRICT.removeprefix("IVXP-DELIVER | "),
        STRICT.replace(NONCE, "n" * 15),
        STRICT.replace(NONCE, "n" * 129),
        STRICT.replace(NONCE, NONCE + " | Timestamp: " + TS),
        STRICT.replace(NONCE, NONCE + "."),
        STRICT.replace(NONCE, NONCE + "\u00e9"),
        STRICT.replace(f"Payment: {TX} | Nonce: {NONCE}", f"Nonce: {NONCE} | Payment: {TX}"),
        HUB.replace(str(MS), str(MS)[:-3]),
        HUB.replace(str(MS), str(MS) + "0"),
        HUB.replace(str(MS), TS),
        HUB.replace(ADDRESS, ADDRESS[:-1]),
        HUB + f" | Payment: {TX}",
    ],
)
def test_a_notice_that_is_none_is_refused(missed: str) -> None:
    with pytest.raises(Unauthorized):
        parse_notice(missed)


@pytest.mark.parametrize(
    "missed",
    [
        RECEIPT.replace("true", "True"),
        RECEIPT.replace("true", "false"),
        RECEIPT.replace(HASH, HASH[:-1]),
        RECEIPT.replace(HASH, "md5:" + HASH),
        RECEIPT.replace(HASH, "none"),
        RECEIPT_WITH_HEAD.replace("17:", "0:"),
        RECEIPT_WITH_HEAD.replace("17:", "017:"),
        RECEIPT_WITH_HEAD.replace("17:", "-17:"),
        RECEIPT_WITH_HEAD.replace("17:", ""),
        RECEIPT_WITH_HEAD.replace(ROOT, ROOT.upper()),
        RECEIPT_WITH_HEAD.replace(ROOT, ROOT[:-2]),
        OLD_RECEIPT.replace("true", "false"),
        OLD_RECEIPT.replace(" | Satisfied: true", ""),
    ],
)
def test_a_receipt_that_is_none_is_refused(missed: str) -> None:
    with pytest.raises(Unauthorized):
        parse_receipt(missed)


@pytest.mark.parametrize(
    "missed",
    [
        DISPUTE.replace("wrong_content", "angry"),
        DISPUTE.replace("wrong_content", ""),
        DISPUTE.replace(HASH, ""),
        DISPUTE.replace(HASH, "None"),
        DISPUTE.replace(ROOT, ROOT.upper()),
        DISPUTE.replace(ROOT, "my words"),
        DISPUTE.replace(f" | Statement: {ROOT}", ""),
    ],
)
def test_a_dispute_that_is_none_is_refused(missed: str) -> None:
    with pytest.raises(Unauthorized):
        parse_dispute(missed)


@pytest.mark.parametrize("text", [text for text in EVERY if TS in text])
@pytest.mark.parametrize(
    "stamp",
    [
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-01-01T25:00:00Z",
        "0000-01-01T00:00:00Z",
        "2026-01-01T00:00:00",
        "2026-01-01T00:00:00+0000",
        "2026-01-01T00:00:00.1234567890Z",
    ],
)
def test_a_stamp_that_names_no_moment_has_a_code_of_its_own(text: str, stamp: str) -> None:
    with pytest.raises(LedgerError) as refused:
        PARSE[text](text.replace(TS, stamp))

    assert refused.value.code == "INVALID_TIMESTAMP"
