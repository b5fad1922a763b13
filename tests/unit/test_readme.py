"""What the README and the operator's page say is what the code says."""

import re
import types
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import BaseModel

from api.body import parse_json
from api.config import Settings
from api.ivxp.models import ConfirmationRequest, DeliveryRequest, QuoteRequest
from api.ivxp.views import _WORDS_1_0
from ledger.checkpoint import LogKey
from ledger.entry import Draft, Seal, seal
from ledger.errors import VerificationError
from ledger.event import TreeHead
from ledger.events import EVENT_OF
from ledger.merkle import EMPTY_ROOT, leaf_hash, node_hash
from ledger.order import NEXT, Status
from ledger.signing import Signer
from ledger.texts import parse_notice, parse_receipt
from scripts import demo_kill, demo_order, demo_outage
from scripts.demo_timeline import BESIDE, PROVES
from tests.unit import builders as b

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
OPERATIONS = (ROOT / "docs" / "operations.md").read_text("utf-8")
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
PAGES = {
    path: path.read_text("utf-8")
    for path in (ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md"))
}


ORIGIN = "ledger.example/readme"
PROVIDER = Signer(b"\x01" * 32)
LOG_KEY = LogKey(ORIGIN, b"\x02" * 32)
ORDER_ID = "ivxp-00000000-0000-4000-8000-000000000001"
MESSAGES: tuple[type[BaseModel], ...] = (QuoteRequest, DeliveryRequest, ConfirmationRequest)
IN_WORDS = {"refund_policy"}
"""Settings whose default the operator's page describes, not quotes."""


def rows(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table under a heading, without its head."""
    section = re.search(
        rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL
    )
    assert section, heading
    lines = [line for line in section[1].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_status_table_names_every_status_and_says_what_the_timeline_says() -> None:
    table = {row[0].strip("`"): tuple(row[1:4]) for row in rows(README, "What each status proves")}

    assert list(table) == [str(status) for status in Status]
    assert table == PROVES


def test_the_status_table_shows_the_words_of_the_older_protocol() -> None:
    table = rows(README, "What each status proves")
    words = {row[0].strip("`"): row[4].strip("`") for row in table}

    assert words.pop("disputed") == "delivered` with content, else the word before"
    assert words == {str(status): word for status, word in _WORDS_1_0.items()}


def test_the_lifecycle_is_drawn_as_the_code_has_it() -> None:
    drawn = dict(re.findall(r"^(\w+) +-> (.+)$", README, re.MULTILINE))
    following = {
        status: set() if names == "nothing" else set(names.split(", "))
        for status, names in drawn.items()
    }

    assert following == {str(s): {str(n) for n in NEXT[s]} for s in Status}


def test_the_demo_has_words_only_for_events_that_exist() -> None:
    assert set(PROVES) | set(BESIDE) <= set(EVENT_OF)


@pytest.mark.parametrize("page", [README, OPERATIONS], ids=["README", "operations"])
def test_every_setting_that_is_named_exists(page: str) -> None:
    named = {name.lower() for name in re.findall(r"LEDGER_([A-Z_]+)", page)}

    assert named
    assert named <= set(Settings.model_fields)


def test_the_settings_table_has_every_setting_with_its_default() -> None:
    table = {row[0].strip("`"): row[1] for row in rows(OPERATIONS, "Settings")}

    assert set(table) == {f"LEDGER_{name.upper()}" for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        shown = table[f"LEDGER_{name.upper()}"]
        if re.fullmatch("`[^:]+`", shown):
            assert shown.strip("`") == str(field.default).lower(), name
        else:
            assert not field.default or name in IN_WORDS, name


def test_every_make_command_exists() -> None:
    targets = set(re.findall(r"^(\w+):", MAKEFILE, re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make (\w+)", README, re.MULTILINE))

    assert {"demo", "test", "serve"} <= named <= targets


def test_every_module_that_a_page_runs_exists() -> None:
    for path, page in PAGES.items():
        for module in re.findall(r"python -m (scripts\.\w+)", page):
            assert (ROOT / (module.replace(".", "/") + ".py")).is_file(), (path, module)


def test_every_link_inside_the_repository_leads_somewhere() -> None:
    for path, page in PAGES.items():
        for target in re.findall(r"\]\(([^)#]+)\)", page):
            if "://" not in target:
                assert (path.parent / target).exists(), (path, target)


def test_the_tests_that_the_demo_names_exist() -> None:
    for part in (demo_order, demo_outage, demo_kill):
        path, _, chosen = part.TEST.partition(" -k ")
        assert chosen in (ROOT / path).read_text("utf-8"), part.TEST


def test_the_messages_of_the_order_by_hand_are_those_of_the_protocol() -> None:
    section = README.partition("## One order by hand")[2].partition("\n## ")[0]
    placeholders = [
        ('"tx_hash":"0x..."', f'"tx_hash":"{b.tx("readme")}"'),
        ('address":"0x..."', f'address":"{b.CLIENT.address}"'),
    ]
    for placeholder, value in placeholders:
        section = section.replace(placeholder, value)
    bodies = re.findall(r"-d '(.*?)'", section, re.DOTALL)

    for model, body in zip(MESSAGES, bodies, strict=True):
        model.model_validate(parse_json(body.encode()))


def test_the_texts_of_the_order_by_hand_are_those_that_clients_sign() -> None:
    section = README.partition("## One order by hand")[2].partition("\n## ")[0]
    values = {
        "<order_id>": ORDER_ID,
        "<tx_hash>": b.tx("readme"),
        "<sha256 of content>": b.digest_of("readme"),
        "...": "2026-01-01T12:00:00Z",
    }
    notice, receipt = re.findall(r"(Order: <order_id> .*)", section)
    for placeholder, value in values.items():
        notice, receipt = (text.replace(placeholder, value) for text in (notice, receipt))

    assert parse_notice(notice).tx_hash == b.tx("readme")
    assert parse_receipt(receipt).content_hash == b.digest_of("readme")


def answer_of_a_write() -> dict[str, object]:
    """Return an answer as the service gives it: the event at position 2 of a tree of 2."""
    place = Seal(
        log=ORIGIN,
        stream=f"order/{ORDER_ID}",
        seq=1,
        prev="0" * 64,
        at=b.NOW,
        base=TreeHead(size=0, root=EMPTY_ROOT.hex()),
    )
    event = seal(Draft(b.terms()), place, PROVIDER)
    sibling = leaf_hash(b"an earlier entry")
    checkpoint = LOG_KEY.sign_checkpoint(ORIGIN, 2, node_hash(sibling, event.leaf))
    block = {
        "position": 2,
        "leaf": event.leaf.hex(),
        "entry": event.entry.decode(),
        "checkpoint": checkpoint,
        "proof": [b64encode(sibling).decode()],
    }
    return {"order_id": ORDER_ID, "ledger": block}


@pytest.fixture
def check() -> Callable[[dict[str, object], str, str, str], str]:
    """Return the function that the README gives its readers."""
    program = types.ModuleType("readme")
    found = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert found
    exec(found[1], program.__dict__)  # noqa: S102 - our own page
    function: Callable[[dict[str, object], str, str, str], str] = program.check
    return function


def test_the_program_that_checks_an_answer_proves_its_event(
    check: Callable[[dict[str, object], str, str, str], str],
) -> None:
    assert check(answer_of_a_write(), ORIGIN, PROVIDER.address, LOG_KEY.vkey) == "quoted"


@pytest.mark.parametrize("part", ["position", "entry", "checkpoint", "proof"])
def test_the_program_that_checks_an_answer_refuses_a_changed_one(
    check: Callable[[dict[str, object], str, str, str], str], part: str
) -> None:
    answer = answer_of_a_write()
    block = answer["ledger"]
    assert isinstance(block, dict)
    changed = {
        "position": 1,
        "entry": str(block["entry"]).replace("quoted", "posted"),
        "checkpoint": str(block["checkpoint"]).replace("\n2\n", "\n3\n"),
        "proof": [],
    }
    block[part] = changed[part]

    with pytest.raises(VerificationError):
        check(answer, ORIGIN, PROVIDER.address, LOG_KEY.vkey)


@pytest.mark.parametrize(
    ("wallet", "log_key"),
    [
        ("0x" + "00" * 20, LOG_KEY.vkey),
        (PROVIDER.address, LogKey(ORIGIN, b"\x03" * 32).vkey),
    ],
    ids=["another wallet", "another log key"],
)
def test_the_program_that_checks_an_answer_trusts_only_the_named_keys(
    check: Callable[[dict[str, object], str, str, str], str], wallet: str, log_key: str
) -> None:
    with pytest.raises((AssertionError, VerificationError)):
        check(answer_of_a_write(), ORIGIN, wallet, log_key)
