"""The examples of the client's page, run as they stand there."""

from __future__ import annotations

import re
import types
from pathlib import Path
from typing import Any

import pytest

from scripts.devchain import DevChain
from tests.contract.buying import payments
from tests.contract.kit import ECHO_MICROS, Service
from tests.support.chain import funded_account

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "client.md").read_text("utf-8")
LINES = 10


def example(heading: str) -> Any:  # noqa: ANN401 - whatever the page defines
    """Return the module that the first program under a heading makes."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section, heading
    program = re.search(r"```python\n(.*?)```", section[1], re.DOTALL)
    assert program, heading
    assert len(program[1].splitlines()) <= LINES
    module = types.ModuleType("example")
    exec(program[1], module.__dict__)  # noqa: S102 - our own page
    return module


async def test_the_buyers_example_buys(
    service: Service, chain: DevChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    account = funded_account(chain, "client page", 5_000_000)
    main = example("Buyer").main

    first = await main(service.url, chain.rpc_url, bytes(account.key))
    again = await main(service.url, chain.rpc_url, bytes(account.key))

    assert first == again == "hello"
    assert payments(chain, "client page") == [ECHO_MICROS]
    assert (tmp_path / "buyer.db").exists()
