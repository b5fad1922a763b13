"""What tests need around the dev chain: named accounts, paused mining, a plain RPC client."""

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak

from scripts.devchain import DevChain

TRANSFER_TOPIC = "0x" + keccak(text="Transfer(address,address,uint256)").hex()


def account_named(name: str) -> LocalAccount:
    """Return the same account for the same name, in every run.

    The chain is shared by a whole test session: name accounts after the test.
    """
    account: LocalAccount = Account.from_key(keccak(text=name))
    return account


def funded_account(chain: DevChain, name: str, usdc_micros: int) -> LocalAccount:
    account = account_named(name)
    chain.fund(account.address, usdc_micros)
    return account


@contextmanager
def mining_paused(chain: DevChain) -> Iterator[None]:
    """Keep transactions pending until `chain.mine()`; what is left is mined at the end."""
    chain.set_automine(False)
    try:
        yield
    finally:
        chain.set_automine(True)
        chain.mine()


def transfers(receipt: dict[str, Any]) -> list[tuple[str, str, int]]:
    """Return sender, receiver and micro-USDC of every Transfer log, in order."""
    return [
        ("0x" + log["topics"][1][-40:], "0x" + log["topics"][2][-40:], int(log["data"], 16))
        for log in receipt["logs"]
        if log["topics"][0] == TRANSFER_TOPIC
    ]


def request(method: str, *params: object, id: int = 1) -> dict[str, Any]:  # noqa: A002 - JSON-RPC
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": list(params)}


def post(url: str, message: object, *, timeout_seconds: float = 10) -> tuple[int, Any]:
    """Post JSON on a connection of its own; return the status and the JSON of the answer."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=timeout_seconds)
    try:
        connection.request("POST", "/", json.dumps(message), {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()
