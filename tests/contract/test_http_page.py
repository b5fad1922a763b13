"""The page on HTTP says what the code says: every route, member and code, and how to check."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final, get_args

import pytest
import pytest_asyncio
from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo

import api.errors
import ledger.errors
from api import body as api_body
from api import limits as api_limits
from api.app import ROUTES
from api.config import Settings
from api.errors import STATUS_OF
from api.ivxp.models import Message
from api.ivxp.responses import ErrorResponse, LedgerBlock
from api.routes import Route
from ledger.errors import LedgerError
from scripts.buyer import Answer
from scripts.devchain import DevChain
from tests.contract.kit import NETWORK, Service, delivered_status, path_of, pay, payer
from tests.contract.proofs import genesis_of

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = (ROOT / "docs" / "http.md").read_text("utf-8")
AUDIT: Final = "audit"

ORDERED = ["/ivxp/request", "/ivxp/deliver", "/ivxp/confirm"]


def sections() -> dict[str, str]:
    """Return the text of each documented route."""
    found: dict[str, str] = {}
    for heading, text in re.findall(
        r"^### (`[^\n]+)\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE
    ):
        found.update(dict.fromkeys(re.findall(r"`([^`]+)`", heading), text))
    return found


def members(model: type[BaseModel]) -> Iterator[str]:
    """Yield the members of a request, those of its parts by their path."""
    for field, info in model.model_fields.items():
        name = sent_as(field, info)
        inner = [t for t in (info.annotation, *get_args(info.annotation)) if is_part(t)]
        if inner:
            yield from (f"{name}.{path}" for path in members(inner[0]))
        else:
            yield name


def sent_as(field: str, info: FieldInfo) -> str:
    """Return the name of a request's member; of several, the first."""
    alias = info.validation_alias
    if isinstance(alias, AliasChoices):
        return str(alias.choices[0])
    return str(alias or field)


def answered(model: type[BaseModel]) -> set[str]:
    """Return the names of an answer's members."""
    return {info.serialization_alias or field for field, info in model.model_fields.items()}


def is_part(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Message)


def statuses() -> dict[str, set[int]]:
    """Return every code that the source can answer with, and the HTTP statuses that it has."""
    found: dict[str, set[int]] = defaultdict(set)
    found["INTERNAL_ERROR"].add(500)
    for status, code in api.errors._HTTP_CODES.items():
        found[code].add(status)
    for kind, status in STATUS_OF.items():
        found[kind.code].add(api.errors._CODE_STATUS.get(kind.code, status))
    for code in codes_of_fields():
        found[code].add(STATUS_OF[ledger.errors.InvalidInput])
    for code, kind in explicit_codes():
        found[code].add(api.errors._CODE_STATUS.get(code) or STATUS_OF[kind])
    found["VERIFICATION_FAILED"].add(STATUS_OF.get(ledger.errors.VerificationError, 500))
    return found


def codes_of_fields() -> list[str]:
    return list(api_body._CODE_OF_FIELD.values())


def explicit_codes() -> Iterator[tuple[str, type[LedgerError]]]:
    """Yield each code that stands at an error's making, with the error's class."""
    kinds: dict[str, type[LedgerError]] = {
        name: kind
        for module in (ledger.errors, api_body, api_limits)
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, LedgerError)
    }
    files = [*(ROOT / "ledger").rglob("*.py"), *(ROOT / "api").rglob("*.py")]
    for path in files:
        if path.name.startswith(AUDIT):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                for keyword in node.keywords:
                    value = keyword.value
                    given = isinstance(value, ast.Constant) and isinstance(value.value, str)
                    if keyword.arg == "code" and given and node.func.id in kinds:
                        yield str(ast.literal_eval(value)), kinds[node.func.id]


def test_the_page_has_every_route_and_no_other() -> None:
    assert sorted(sections()) == sorted(f"{route.method} {route.path}" for route in ROUTES)


def by_name(route: Route) -> str:
    return f"{route.method} {route.path}"


@pytest.mark.parametrize("route", ROUTES, ids=by_name)
def test_the_page_names_every_member_of_a_route(route: Route) -> None:
    text = sections()[by_name(route)]
    takes = set(members(route.request)) if route.request else set()
    answers = answered(route.response) if route.response else set()
    named = set(re.findall(r"`([\w.]+)`", text))

    assert takes | answers <= named
    documented = {
        name
        for row in re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE)
        for name in re.findall(r"`([\w.]+)`", row)
    }
    assert documented == takes | answers


def test_the_page_has_every_error_code_with_its_status_and_no_other() -> None:
    rows = re.findall(r"^\| `([A-Za-z_]+)` \| (\d{3}) \| (.+) \|$", PAGE, re.MULTILINE)

    found = statuses()
    assert [code for code, _, _ in rows] == sorted(found)
    for code, status, meaning in rows:
        others = {int(other) for other in re.findall(r"\b([45]\d{2}) where ", meaning)}
        assert {int(status)} | others == found[code] | others, code


def test_the_page_names_every_member_of_the_ledger_block_and_of_an_error() -> None:
    block = PAGE[PAGE.index("## The ledger block") :]
    rows = re.findall(r"^\| `(\w+)` \|", block, re.MULTILINE)
    errors = PAGE[PAGE.index("## Errors") : PAGE.index("## The ledger block")]

    assert rows == list(LedgerBlock.model_fields)
    assert [name for name in ErrorResponse.model_fields if name not in errors] == []


def test_every_setting_that_the_page_names_has_the_default_it_gives() -> None:
    for name, shown in re.findall(r"`LEDGER_(\w+)` \(([\d,]+)", PAGE):
        assert Settings.model_fields[name.lower()].default == int(shown.replace(",", ""))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def answers(service: Service, chain: DevChain) -> AsyncIterator[dict[str, Answer]]:
    """Return one real answer of each route, by its method and path."""
    buyer = payer(chain, service, "http page")
    quoted = await buyer.request("summary_card", "words")
    order_id = str(quoted.require(200)["order_id"])
    notice = buyer.notice(order_id, pay(chain, buyer, 500_000), NETWORK)
    accepted = await buyer.deliver(notice)
    await delivered_status(buyer, order_id)
    found = {"POST /ivxp/request": quoted, "POST /ivxp/deliver": accepted}
    for route in ROUTES:
        if route.words:
            continue  # nobody asks there unproven: tested with the marketplace
        if route.method == "GET" and not route.roles and route.media_type == "application/json":
            path = path_of(route.path, order_id)
            found[by_name(route)] = await buyer.get(path)
    content = str(found["GET /ivxp/download/{order_id}"].require(200)["content"])
    for path in ("/ivxp/orders/{order_id}/confirm", "/ivxp/confirm"):
        found[f"POST {path}"] = await buyer.confirm(order_id, content)
    yield found


@pytest.mark.asyncio(loop_scope="module")
async def test_every_answer_has_the_members_of_its_model_and_no_others(
    answers: dict[str, Answer],
) -> None:
    for route in ROUTES:
        if by_name(route) not in answers:
            continue  # asked with a token, or to be signed: tested where that is
        body = answers[by_name(route)].require(200)
        assert route.response is not None
        route.response.model_validate(body)
        assert set(body) <= set(route.response.model_fields), by_name(route)


def program() -> str:
    found = re.search(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert found
    return found[1]


@pytest.mark.asyncio(loop_scope="module")
async def test_the_program_on_the_page_checks_real_answers_and_refuses_changed_ones(
    service: Service, answers: dict[str, Answer]
) -> None:
    genesis = genesis_of(service.folder / "data")["body"]
    known = {
        "origin": genesis["origin"],
        "wallet": genesis["wallet"],
        "log_key": genesis["log_key"],
    }
    for path in ORDERED:
        answer = answers[f"POST {path}"]
        exec(program(), {**known, "answer": answer.body, "header": answer.ledger_head})  # noqa: S102

    block: Any = answers["POST /ivxp/confirm"].body["ledger"]
    for name, value in {
        "position": block["position"] - 1,
        "leaf": "00" * 32,
        "entry": block["entry"].replace('"seq":', '"seq":1'),
        "checkpoint": block["checkpoint"].replace(genesis["origin"], "elsewhere"),
        "proof": block["proof"][::-1],
        "order_head": {**block["order_head"], "signature": "0x" + "11" * 64 + "1b"},
    }.items():
        changed = {**known, "answer": {"ledger": {**block, name: value}}, "header": "x"}
        with pytest.raises(Exception):  # noqa: B017, PT011 - each change fails in its own way
            exec(program(), {**changed, "header": answers["POST /ivxp/confirm"].ledger_head})  # noqa: S102
