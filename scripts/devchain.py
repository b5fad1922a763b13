"""A throw-away chain with a test USDC, for the demo and the tests. Play money only.

The test token stands at the address where USDC lives on the network whose chain id is used.
`python -m scripts.devchain` runs such a chain until Ctrl-C.
"""

import argparse
import json
import signal
import sys
import threading
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from eth_abi.abi import encode
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.abi import function_abi_to_4byte_selector, get_abi_input_types
from eth_utils.address import to_checksum_address

from scripts.anvil import AnvilMissingError
from scripts.anvil_process import AnvilStartError
from scripts.devnode import DevChainError, DevNode

ASSETS: Final = Path(__file__).parent / "assets"
BASE: Final = 8453
BASE_SEPOLIA: Final = 84532
# The name is part of the token's EIP-712 domain and differs between the two networks.
USDC: Final = {
    BASE: ("USD Coin", "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"),
    BASE_SEPOLIA: ("USDC", "0x036CbD53842c5426634e7929541eC2318f3dCF7e"),
}
BATCH_ADDRESS: Final = "0x00000000000000000000000000000000000ba7c4"

# anvil's own default mnemonic: everybody knows these keys.
MNEMONIC: Final = "test test test test test test test test test test test junk"
ACCOUNTS: Final = 10
FOREGROUND_USDC_MICROS: Final = 10_000 * 10**6

GAS_LIMIT: Final = 1_000_000
MAX_FEE_WEI: Final = 100 * 10**9
TIP_WEI: Final = 10**9
UNLIMITED: Final = 2**256 - 1
RECEIPT_TIMEOUT_SECONDS: Final = 10
RECEIPT_POLL_SECONDS: Final = 0.005

PrivateKey = str | bytes


def encode_call(contract: str, function: str, *arguments: object) -> str:
    """Return the call data for a function of a contract in `assets`."""
    abi = _functions(contract)[function]
    arguments_as_bytes = encode(get_abi_input_types(abi), arguments)
    return "0x" + (function_abi_to_4byte_selector(abi) + arguments_as_bytes).hex()


@cache
def _functions(contract: str) -> dict[str, Any]:
    abi = json.loads((ASSETS / f"{contract}.abi.json").read_text())
    return {entry["name"]: entry for entry in abi if entry["type"] == "function"}


@cache
def dev_accounts() -> tuple[LocalAccount, ...]:
    """Return the accounts that anvil gives ether at genesis."""
    Account.enable_unaudited_hdwallet_features()
    paths = [f"m/44'/60'/0'/0/{index}" for index in range(ACCOUNTS)]
    return tuple(Account.from_mnemonic(MNEMONIC, account_path=path) for path in paths)


class DevChain(DevNode):
    """A running chain with the test USDC on it."""

    def __init__(
        self,
        *,
        chain_id: int = BASE_SEPOLIA,
        slots_in_an_epoch: int = 32,
        block_time_seconds: int | None = None,
    ) -> None:
        self.accounts = dev_accounts()
        self.minter = self.accounts[0]
        self.usdc_name, self.usdc_address = USDC.get(chain_id, USDC[BASE_SEPOLIA])
        self._nonces = threading.Lock()
        super().__init__(
            chain_id=chain_id,
            slots_in_an_epoch=slots_in_an_epoch,
            block_time_seconds=block_time_seconds,
        )
        try:
            self._place_contracts()
        except BaseException:
            self.stop()
            raise

    def fund(self, address: str, usdc_micros: int, eth_wei: int = 10**18) -> None:
        """Mint test USDC for an address, and give it ether for its gas."""
        if eth_wei:
            self.send(self.minter.key, to=address, value_wei=eth_wei)
        if usdc_micros:
            mint = encode_call("usdc_like", "mint", address, usdc_micros)
            self.send(self.minter.key, to=self.usdc_address, data=mint)

    def balance_micros(self, address: str) -> int:
        return self._read_token("balanceOf", address)

    def transfer(self, private_key: PrivateKey, to: str, micros: int, *, wait: bool = True) -> str:
        """Send USDC in a signed transaction and return its hash."""
        data = encode_call("usdc_like", "transfer", to, micros)
        return self.send(private_key, to=self.usdc_address, data=data, wait=wait)

    def transfer_many_in_one_tx(
        self,
        private_key: PrivateKey,
        payments: Sequence[tuple[str, int]],
        *,
        wait: bool = True,
    ) -> str:
        """Make several transfers from one payer, in the given order, in one transaction.

        The first time for a payer, another transaction goes ahead, in which the payer lets the
        batch contract spend.
        """
        payer = Account.from_key(private_key).address
        if self._read_token("allowance", payer, BATCH_ADDRESS) < UNLIMITED:
            approve = encode_call("usdc_like", "approve", BATCH_ADDRESS, UNLIMITED)
            self.send(private_key, to=self.usdc_address, data=approve, wait=wait)
        recipients = [to for to, _ in payments]
        amounts = [micros for _, micros in payments]
        data = encode_call("batch_transfer", "pay", self.usdc_address, recipients, amounts)
        return self.send(private_key, to=BATCH_ADDRESS, data=data, wait=wait)

    def send(
        self,
        private_key: PrivateKey,
        *,
        to: str,
        data: str = "0x",
        value_wei: int = 0,
        wait: bool = True,
    ) -> str:
        """Sign and send any transaction. Waiting for it also means that it has to succeed."""
        if wait and not (self.mines_by_clock or self.rpc("anvil_getAutomine")):
            raise DevChainError("automine is off: nothing to wait for; pass wait=False, then mine")
        tx_hash = self._sign_and_submit(private_key, to=to, data=data, value_wei=value_wei)
        if wait and self.wait_for_receipt(tx_hash)["status"] != "0x1":
            raise DevChainError(f"transaction {tx_hash} was reverted")
        return tx_hash

    def wait_for_receipt(self, tx_hash: str) -> dict[str, Any]:
        deadline = time.monotonic() + RECEIPT_TIMEOUT_SECONDS
        while (receipt := self.receipt(tx_hash)) is None:
            if time.monotonic() > deadline:
                raise DevChainError(f"transaction {tx_hash} was not mined")
            time.sleep(RECEIPT_POLL_SECONDS)
        return receipt

    def receipt(self, tx_hash: str) -> dict[str, Any] | None:
        receipt: dict[str, Any] | None = self.rpc("eth_getTransactionReceipt", [tx_hash])
        return receipt

    def raw_transaction(self, tx_hash: str) -> str:
        """Return a transaction's signed bytes, as `reorg` takes them. Ask before the reorg."""
        raw = self.rpc("eth_getRawTransactionByHash", [tx_hash])
        if raw is None:
            raise DevChainError(f"transaction {tx_hash} is not known")
        return str(raw)

    def _sign_and_submit(
        self, private_key: PrivateKey, *, to: str, data: str, value_wei: int
    ) -> str:
        account = Account.from_key(private_key)
        # Two threads that pay from one account would otherwise read the same nonce.
        with self._nonces:
            signed = account.sign_transaction(
                {
                    "chainId": self.chain_id,
                    "nonce": self.rpc("eth_getTransactionCount", [account.address, "pending"]),
                    "to": to_checksum_address(to),
                    "data": data,
                    "value": value_wei,
                    "gas": GAS_LIMIT,
                    "maxFeePerGas": MAX_FEE_WEI,
                    "maxPriorityFeePerGas": TIP_WEI,
                }
            )
            raw = "0x" + signed.raw_transaction.hex()
            return str(self.rpc("eth_sendRawTransaction", [raw]))

    def _read_token(self, function: str, *arguments: object) -> int:
        call = {"to": self.usdc_address, "data": encode_call("usdc_like", function, *arguments)}
        return int(self.rpc("eth_call", [call, "latest"]), 16)

    def _place_contracts(self) -> None:
        places = {self.usdc_address: "usdc_like", BATCH_ADDRESS: "batch_transfer"}
        for address, contract in places.items():
            code = (ASSETS / f"{contract}.runtime.hex").read_text().strip()
            self.rpc("anvil_setCode", [address, code])
        initialize = encode_call("usdc_like", "initialize", self.usdc_name, self.minter.address)
        self.send(self.minter.key, to=self.usdc_address, data=initialize)
        self._first_free_block = self.head()


def _describe(chain: DevChain) -> None:
    print(f"RPC url    {chain.rpc_url}")
    print(f"chain id   {chain.chain_id}")
    print(f"USDC       {chain.usdc_address} (test token)")
    print(f"process id {chain.pid}")
    print(f"accounts, each with {FOREGROUND_USDC_MICROS // 10**6} USDC; their keys are public:")
    for account in chain.accounts:
        print(f"  {account.address}  0x{bytes(account.key).hex()}")
    print("Ctrl-C ends the chain.", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.devchain", description=__doc__)
    parser.add_argument("--chain-id", type=int, default=BASE_SEPOLIA)
    parser.add_argument("--slots-in-an-epoch", type=int, default=32)
    parser.add_argument("--block-time", type=int, help="seconds; default: a block per transaction")
    options = parser.parse_args(argv)
    # A polite request to end takes the same way out as Ctrl-C, so that anvil is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with DevChain(
            chain_id=options.chain_id,
            slots_in_an_epoch=options.slots_in_an_epoch,
            block_time_seconds=options.block_time,
        ) as chain:
            for account in chain.accounts:
                chain.fund(account.address, FOREGROUND_USDC_MICROS, eth_wei=0)
            _describe(chain)
            chain.wait()
    except KeyboardInterrupt:
        return 0
    except (AnvilMissingError, AnvilStartError, DevChainError) as error:
        print(error, file=sys.stderr)
        return 1
    print("anvil has ended by itself", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
