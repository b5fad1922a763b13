"""The page of events says what the code says: every kind, every field, every choice, no others."""

import json
import re
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel

from ledger.cursor_events import CursorSettings, CursorState, Lease, Place, Tries
from ledger.entry import Beacon, Envelope, verify_entry
from ledger.event import ClientText, Transfer, TransferKey, TreeHead
from ledger.events import EVENT_OF
from ledger.log_events import Continues
from tests.unit import builders as b

PAGE: Final = (Path(__file__).resolve().parents[2] / "docs" / "events.md").read_text("utf-8")

PARTS: Final[dict[str, type[BaseModel]]] = {
    "client text": ClientText,
    "transfer": Transfer,
    "transfer key": TransferKey,
    "tree head": TreeHead,
    "continues": Continues,
    "block": Beacon,
    "place": Place,
    "settings": CursorSettings,
    "lease": Lease,
    "tries": Tries,
    "cursor": CursorState,
}

FORMS: Final = {
    "micro-USDC": r'"(0|[1-9][0-9]*)"',
    "Unix seconds": r"[0-9]{10}",
    "seconds": r"[0-9]+",
    "Unix milliseconds": r"[0-9]{13}",
    "milliseconds": r"[0-9]+",
    "integer": r"[0-9]+",
    "boolean": r"true|false",
    "text": r'".{1,200}"',
    "signed text": r'".+"',
    "address": r'"0x[0-9a-f]{40}"',
    "party address": r'"(0x[0-9a-f]{40}|[1-9A-HJ-NP-Za-km-z]{32,44})"',
    "Solana address": r'"[1-9A-HJ-NP-Za-km-z]{32,44}"',
    "wallet": r'"[A-Za-z0-9._-]{1,64}"',
    "account": r'"(eip155:[0-9]+:0x[0-9a-f]{40}|solana:\w{32}:[1-9A-HJ-NP-Za-km-z]{32,44})"',
    "chain": r'"(eip155:[0-9]+|solana:\w{32})"',
    "hash": r'"0x[0-9a-f]{64}"',
    "digest": r'"[0-9a-f]{64}"',
    "content id": r'"[0-9a-f]{32}"',
    "salt": r'"[0-9a-f]{32}"',
    "signature": r'"(0x[0-9a-f]{130}|ed25519:[0-9a-f]{128})"',
    "Solana signature": r'"[1-9A-HJ-NP-Za-km-z]{64,88}"',
    "transaction": r'"[A-Za-z0-9+/]+={0,2}"',
    "UUID": r'"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"',
    "time": r'"[0-9-]{10}T[0-9:]{8}\.[0-9]{3}Z"',
    "origin": r'"[A-Za-z0-9._/-]+"',
    "verifier key": r'"\S+\+[0-9a-f]{8}\+\S+"',
    "code": r'"[A-Z][A-Z0-9_]*"',
    "object": r"\{.*\}",
}
"""What the value of a field of each documented type looks like in the signed bytes."""

Row = tuple[str, str]


def section(heading: str) -> str:
    """Return the text under a heading, up to the next one."""
    found = re.search(
        rf"^### {re.escape(heading)}\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE
    )
    assert found, f"the page has no section {heading!r}"
    return found[1]


def fields_in(text: str) -> dict[str, str]:
    """Return the documented type of each field in a table."""
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", text, re.MULTILINE)
    assert len(rows) == len({name for name, _ in rows}), "a field stands twice"
    return dict(rows)


def choices_of(annotation: object) -> set[str]:
    """Return the words that a field may hold, if it holds one of a closed list."""
    if get_origin(annotation) is Literal:
        return {word for word in get_args(annotation) if isinstance(word, str)}
    return set()


def mismatches(fields: dict[str, str], model: type[BaseModel]) -> list[str]:
    """Return what the documented fields say otherwise than the class."""
    found = [f"{name} is missing" for name in model.model_fields.keys() - fields.keys()]
    found += [f"{name} does not exist" for name in fields.keys() - model.model_fields.keys()]
    for name in fields.keys() & model.model_fields.keys():
        field = model.model_fields[name]
        if fields[name].startswith("optional ") is field.is_required():
            found.append(f"{name}: optional or not")
        choices = choices_of(field.annotation)
        documented = set(re.findall(r"`(\w+)`", fields[name]))
        if choices != documented:
            found.append(f"{name}: {sorted(choices ^ documented)}")
    return found


def has_form(value: Any, kind: str) -> bool:  # noqa: ANN401 - any JSON
    """Whether a JSON value is what the page calls by this type."""
    kind = kind.removeprefix("optional ")
    if kind.startswith("list of "):
        return bool(value) and all(has_form(item, kind.removeprefix("list of ")) for item in value)
    if kind.startswith("one of "):
        return f"`{value}`" in kind
    if kind in PARTS:
        table = fields_in(section(f"Part: {kind}"))
        return set(value) == set(table) and all(has_form(value[n], table[n]) for n in value)
    return re.fullmatch(FORMS[kind], json.dumps(value)) is not None


def test_the_page_has_a_section_for_each_kind_and_for_no_other() -> None:
    headings = re.findall(r"^### `(\w+)`$", PAGE, re.MULTILINE)

    assert sorted(headings) == sorted(EVENT_OF)


@pytest.mark.parametrize("kind", sorted(EVENT_OF))
def test_the_page_names_the_fields_of_each_kind_and_their_choices(kind: str) -> None:
    assert mismatches(fields_in(section(f"`{kind}`")), EVENT_OF[kind]) == []


@pytest.mark.parametrize("kind", sorted(EVENT_OF))
def test_the_page_names_the_type_of_each_field_as_it_is_signed(kind: str) -> None:
    documented = fields_in(section(f"`{kind}`"))
    body = b.SAMPLES[kind].body()

    assert {
        name: has_form(value, documented[name]) for name, value in body.items()
    } == dict.fromkeys(documented, True)


@pytest.mark.parametrize("kind", sorted(EVENT_OF))
def test_the_page_names_whose_act_each_kind_records(kind: str) -> None:
    said = re.search(r"^Actor: (\w+)\. \S+", section(f"`{kind}`"), re.MULTILINE)

    assert said
    assert said[1] == EVENT_OF[kind].actor


@pytest.mark.parametrize("part", sorted(PARTS))
def test_the_page_names_the_fields_of_each_shared_part(part: str) -> None:
    assert mismatches(fields_in(section(f"Part: {part}")), PARTS[part]) == []


def test_the_page_names_every_field_of_the_envelope() -> None:
    table = PAGE[PAGE.index("## The entry") : PAGE.index("### Checking one entry")]

    assert mismatches(fields_in(table), Envelope) == []


def test_every_type_that_a_table_uses_is_explained_and_used() -> None:
    explained = set(
        re.findall(r"^\| ([A-Za-z -]+) \| ", PAGE[PAGE.index("## Types") :], re.MULTILINE)
    )
    used = {
        kind.strip().removeprefix("optional ").removeprefix("list of ")
        for kind in re.findall(r"^\| `\w+` \| ([^|]+) \|", PAGE, re.MULTILINE)
        if "one of" not in kind
    }

    assert explained - {"type", "field"} == used - set(PARTS)
    assert used - set(PARTS) == set(FORMS)


def test_a_page_that_differs_from_the_code_is_noticed() -> None:
    fields = fields_in(section("`posted`"))
    posted = EVENT_OF["posted"]

    assert mismatches({k: v for k, v in fields.items() if k != "attempt"}, posted) == [
        "attempt is missing"
    ]
    assert mismatches({**fields, "more": "text"}, posted) == ["more does not exist"]
    assert mismatches({**fields, "attempt": "optional integer"}, posted) == [
        "attempt: optional or not"
    ]
    assert mismatches({**fields, "attempt": "one of `a`"}, posted) == ["attempt: ['a']"]


def example() -> bytes:
    found = re.search(r"^```json\n(.*)\n```$", PAGE, re.MULTILINE)
    assert found
    return found[1].encode()


def test_the_example_entry_verifies_and_its_leaf_is_the_one_on_the_page() -> None:
    verified = verify_entry(example(), log="ledger.example/one")

    assert verified.signed.leaf.hex() in PAGE


def test_the_program_on_the_page_checks_the_example_and_gives_its_leaf() -> None:
    program = re.search(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert program
    names: dict[str, Any] = {"entry": example()}

    exec(program[1], names)  # noqa: S102 - the page's own program

    assert names["leaf"] == verify_entry(example(), log="ledger.example/one").signed.leaf.hex()


def test_the_program_on_the_page_refuses_a_changed_entry() -> None:
    program = re.search(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert program

    for changed in (example().replace(b'"seq":5', b'"seq":6'), example() + b"\n"):
        with pytest.raises(AssertionError):
            exec(program[1], {"entry": changed})  # noqa: S102 - the page's own program
