"""A service whose last part cannot start ends the parts before it, and lets go of everything."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.errors import Misconfigured
from scripts.devchain import DevChain
from scripts.rpc_proxy import Pairs, RpcProxy
from tests.contract.kit import chain_recognised, serving


@pytest.fixture
def proxy(chain: DevChain) -> Iterator[RpcProxy]:
    with RpcProxy(chain.rpc_url) as running:
        yield running


def on_mainnet(pairs: Pairs) -> None:
    for asked, answer in pairs:
        if asked["method"] == "eth_chainId":
            answer["result"] = hex(8453)


def with_another_genesis(pairs: Pairs) -> None:
    for asked, answer in pairs:
        if asked["method"] == "eth_getBlockByNumber" and asked["params"][0] == "0x0":
            answer["result"]["hash"] = "0x" + "ab" * 32


def own_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name in ("writer", "views", "handler")]


async def start(folder: Path, proxy: RpcProxy) -> None:
    async with serving(folder, rpc_urls=proxy.url):
        pass


async def test_a_wrong_chain_ends_the_start_and_the_folder_is_free_again(
    proxy: RpcProxy, tmp_path: Path
) -> None:
    proxy.rewrite(on_mainnet)

    with pytest.raises(Misconfigured, match="8453"):
        await start(tmp_path, proxy)

    assert own_threads() == []
    proxy.restore()
    await start(tmp_path, proxy)


async def test_another_genesis_ends_the_start_and_the_right_one_is_taken_again(
    proxy: RpcProxy, tmp_path: Path
) -> None:
    await start(tmp_path, proxy)
    proxy.rewrite(with_another_genesis)

    with pytest.raises(Misconfigured, match="genesis"):
        await start(tmp_path, proxy)

    assert own_threads() == []
    proxy.restore()
    await start(tmp_path, proxy)


async def test_views_that_are_no_database_are_put_aside_and_built_anew(
    proxy: RpcProxy, tmp_path: Path
) -> None:
    await start(tmp_path, proxy)
    views = tmp_path / "data" / "views.db"
    views.write_bytes(b"no database" * 1000)

    await start(tmp_path, proxy)

    assert own_threads() == []
    assert views.read_bytes().startswith(b"SQLite format 3")
    assert (tmp_path / "data" / "views.db.damaged").read_bytes().startswith(b"no database")


async def test_a_silent_chain_does_not_keep_the_service_from_starting(
    proxy: RpcProxy, tmp_path: Path
) -> None:
    proxy.cut()
    async with serving(tmp_path, rpc_urls=proxy.url) as service:
        health = (await service.buyer("parts").get("/health")).require(200)
        assert health["payments"] == "chain_unknown"

        proxy.restore()
        await chain_recognised(service.buyer("parts"))
