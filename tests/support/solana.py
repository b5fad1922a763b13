"""A local Solana for tests: the real virtual machine and token programs behind JSON-RPC.

It answers what our client asks, and what the usual JavaScript wallet libraries ask to make token
accounts and sign a transfer. For the first of these they also listen on the next port.
"""

import asyncio
import base64
import json
import math
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from solders.account import Account
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.litesvm import LiteSVM
from solders.message import Message
from solders.pubkey import Pubkey
from solders.token import ID as TOKEN
from solders.token.associated import get_associated_token_address
from solders.token.state import Mint, TokenAccount, TokenAccountState
from solders.transaction import Transaction, VersionedTransaction
from solders.transaction_metadata import FailedTransactionMetadata
from solders.transaction_status import (
    InstructionErrorCustom,
    TransactionErrorFieldless,
    TransactionErrorInstructionError,
)

from ledger.wallets import SOLANA_USDC

DEVNET_GENESIS = "EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxPkrZBG"
MAINNET_GENESIS = "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d"
USDC = SOLANA_USDC["devnet"]
SOL = 10**9
TO_FINAL = 32
SIGNED_AT = 1_764_200_000
TRANSFER = 3


def wallet_named(name: str) -> Keypair:
    """Return the same wallet for the same name, in every run."""
    return Keypair.from_seed(name.encode().ljust(32, b"\0")[:32])


def token_account(wallet: str, mint: str = USDC) -> str:
    return str(get_associated_token_address(Pubkey.from_string(wallet), Pubkey.from_string(mint)))


def transfer(source: str, destination: str, owner: str, amount: int) -> Instruction:
    accounts = [
        AccountMeta(Pubkey.from_string(source), is_signer=False, is_writable=True),
        AccountMeta(Pubkey.from_string(destination), is_signer=False, is_writable=True),
        AccountMeta(Pubkey.from_string(owner), is_signer=True, is_writable=False),
    ]
    return Instruction(TOKEN, bytes([TRANSFER]) + amount.to_bytes(8, "little"), accounts)


def signed(signers: Sequence[Keypair], blockhash: str, *instructions: Instruction) -> str:
    """Return a signed transaction in base64; the first signer pays the fee."""
    message = Message.new_with_blockhash(
        list(instructions), signers[0].pubkey(), Hash.from_string(blockhash)
    )
    return base64_of(Transaction(list(signers), message, message.recent_blockhash))


def base64_of(transaction: Transaction | VersionedTransaction | bytes) -> str:
    return base64.b64encode(bytes(transaction)).decode()


def signed_transfer(
    payer: Keypair, recipient: str, micros: int, blockhash: str, mint: str = USDC
) -> str:
    owner = str(payer.pubkey())
    source, destination = token_account(owner, mint), token_account(recipient, mint)
    return signed([payer], blockhash, transfer(source, destination, owner, micros))


def sdk_micros(price: float, method: str = "USDC") -> int:
    """Return what the marketplace's SDK signs for a price: binary fractions, rounded down."""
    return math.floor((price * 0.75 if method == "ATHR" else price) * 1_000_000)


def signed_payment(
    keypair: Keypair,
    recipient: str,
    mint: str,
    amount: float,
    blockhash: str,
    *,
    now: int = SIGNED_AT,
) -> str:
    """Return the payment header that the marketplace's SDK sends for an amount of USDC."""
    micros = sdk_micros(amount)
    return header_of(
        signed_transfer(keypair, recipient, micros, blockhash, mint),
        sender=str(keypair.pubkey()),
        recipient=recipient,
        value=str(micros),
        asset=mint,
        valid_before=now + 300,
    )


def header_of(
    transaction: str, *, sender: str, recipient: str, value: str, asset: str, valid_before: int
) -> str:
    authorization = {
        "from": sender,
        "to": recipient,
        "value": value,
        "asset": asset,
        "validBefore": valid_before,
    }
    document = {
        "x402Version": 1,
        "scheme": "exact",
        "network": "solana-devnet",
        "payload": {"authorization": authorization, "signedTransaction": transaction},
    }
    return base64.b64encode(json.dumps(document, separators=(",", ":")).encode()).decode()


class LocalSolana:
    """While it is entered, `url` is a node's. Its faults are attributes."""

    def __init__(self, genesis: str = DEVNET_GENESIS, mint: str = USDC) -> None:
        self.genesis = genesis
        self.mint = mint
        self.url = ""
        self.calls: list[str] = []
        self.restore()
        self._svm = LiteSVM()
        self._landed: dict[str, tuple[int, object]] = {}
        self._ending = asyncio.Event()
        self._runners: list[web.AppRunner] = []
        authority = wallet_named("who makes usdc").pubkey()
        data = bytes(Mint(authority, 10**15, 6, True, None))  # noqa: FBT003 - is_initialized
        self._svm.set_account(Pubkey.from_string(mint), Account(SOL, data, TOKEN))

    def restore(self) -> None:
        """Take all faults back. Requests that were held stay held."""
        self.silent = False
        """Takes requests and answers none."""
        self.silent_to = ""
        """Takes requests of this method and answers none."""
        self.fails = False
        """Answers every call with an internal error."""
        self.drops_after_submit = False
        """Takes a transaction into a block, and cuts the connection."""
        self.loses = False
        """Says that it took a transaction, and forgets it."""
        self.skips_preflight = False
        """Takes transactions into blocks that fail there."""
        self.finality = "finalized"
        """How certain blocks are said to be."""
        self.young = False
        """No blockhash is in a final block yet."""
        self.behind = 0
        """How many slots the node is late in what it says of transactions."""
        self.first_block = 0
        """The oldest block that the node has; of what landed before it, it knows nothing."""
        self.refuses: dict[str, int] = {}
        """Signatures of the transactions that it answers with an error of this number."""
        self.rewrites: Callable[[str, dict[str, Any]], object] | None = None
        """Makes the answer to a method another one."""

    async def __aenter__(self) -> Self:
        app, told = web.Application(), web.Application()
        app.router.add_post("/", self._handle)
        told.router.add_get("/", self._tell)
        self._runners = [
            web.AppRunner(each, access_log=None, shutdown_timeout=1) for each in (app, told)
        ]
        for runner in self._runners:
            await runner.setup()
        # JavaScript expects the websocket on the next port; where that is taken, try others.
        for _ in range(20):
            site = web.TCPSite(self._runners[0], "127.0.0.1", 0)
            await site.start()
            port = self._runners[0].addresses[0][1]
            try:
                await web.TCPSite(self._runners[1], "127.0.0.1", port + 1).start()
            except OSError:
                await site.stop()
            else:
                break
        self.url = f"http://127.0.0.1:{port}/"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.set()
        for runner in self._runners:
            await runner.cleanup()

    @property
    def slot(self) -> int:
        return self._svm.get_clock().slot

    @property
    def blockhash(self) -> str:
        return str(self._svm.latest_blockhash())

    def advance(self, slots: int) -> None:
        self._svm.warp_to_slot(self.slot + slots)

    def expire_blockhash(self) -> None:
        """Let every blockhash so far be too old."""
        self._svm.expire_blockhash()
        self.advance(200)

    def fund(self, wallet: str, micros: int = 0, lamports: int = SOL) -> str:
        """Give a wallet its token account with this balance, and lamports for fees."""
        owner, mint = Pubkey.from_string(wallet), Pubkey.from_string(self.mint)
        held = TokenAccount(mint, owner, micros, None, TokenAccountState.Initialized, None, 0, None)
        rent = self._svm.minimum_balance_for_rent_exemption(len(bytes(held)))
        address = token_account(wallet, self.mint)
        self._svm.set_account(Pubkey.from_string(address), Account(rent, bytes(held), TOKEN))
        if lamports:
            self._svm.airdrop(owner, lamports)
        return address

    def balance(self, wallet: str) -> int:
        """Return the micro-units in a wallet's token account."""
        account = self._svm.get_account(Pubkey.from_string(token_account(wallet, self.mint)))
        return 0 if account is None else TokenAccount.from_bytes(account.data).amount

    def submit(self, transaction_base64: str) -> str:
        """Take a transaction as a node does, without anybody asking; return its signature."""
        answer = self._send(transaction_base64)
        assert "result" in answer, answer
        return str(answer["result"])

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        asked = json.loads(await request.read())
        batch = asked if isinstance(asked, list) else [asked]
        self.calls += [call["method"] for call in batch]
        if self.silent or self.silent_to in {call["method"] for call in batch}:
            await self._ending.wait()
        answers = [
            {
                "jsonrpc": "2.0",
                "id": call["id"],
                **self._answer(call["method"], *call.get("params", [])),
            }
            for call in batch
        ]
        if self.drops_after_submit and any(c["method"] == "sendTransaction" for c in batch):
            assert request.transport is not None
            request.transport.abort()
        if self.rewrites is not None:
            told = self.rewrites(batch[0]["method"], answers[0])
            return web.Response(text=told if isinstance(told, str) else json.dumps(told))
        return web.json_response(answers if isinstance(asked, list) else answers[0])

    async def _tell(self, request: web.Request) -> web.StreamResponse:
        """Answer a subscription at once with what became of the transaction so far."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            asked = json.loads(message.data)
            await socket.send_json({"jsonrpc": "2.0", "id": asked.get("id"), "result": 1})
            if asked["method"] == "signatureSubscribe" and asked["params"][0] in self._landed:
                slot, error = self._landed[asked["params"][0]]
                result = {"context": {"slot": slot}, "value": {"err": error}}
                params = {"subscription": 1, "result": result}
                told = {"jsonrpc": "2.0", "method": "signatureNotification", "params": params}
                await socket.send_json(told)
        return socket

    def _answer(self, method: str, *params: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
        if self.fails:
            return _error(-32603, "Internal error")
        if method == "sendTransaction":
            return self._send(params[0])
        try:
            return {"result": self._read(method, params)}
        except KeyError:
            return _error(-32601, "Method not found")

    def _read(self, method: str, params: Sequence[Any]) -> object:
        match method:
            case "getGenesisHash":
                return self.genesis
            case "getSlot" | "getBlockHeight":
                return self._at(params[0] if params else None)
            case "getFirstAvailableBlock":
                return self.first_block
            case "getHealth":
                return "ok"
            case "getVersion":
                return {"solana-core": "2.0.0", "feature-set": 0}
            case "getMinimumBalanceForRentExemption":
                return self._svm.minimum_balance_for_rent_exemption(params[0])
            case _:
                pass
        return {
            "context": {"slot": self._context(method, params), "apiVersion": "2.0.0"},
            "value": self._value(method, params),
        }

    def _value(self, method: str, params: Sequence[Any]) -> object:
        match method:
            case "getLatestBlockhash":
                return {"blockhash": self.blockhash, "lastValidBlockHeight": self.slot + 150}
            case "getRecentBlockhash":
                fee = {"lamportsPerSignature": 5000}
                return {"blockhash": self.blockhash, "feeCalculator": fee}
            case "getFeeForMessage":
                return 5000
            case "isBlockhashValid":
                known = not self.young or _commitment(params[1]) != "finalized"
                return known and params[0] == self.blockhash
            case "getBalance":
                return self._svm.get_balance(Pubkey.from_string(params[0])) or 0
            case "getAccountInfo":
                return self._account(params[0])
            case "getMultipleAccounts":
                return [self._account(address) for address in params[0]]
            case "getTokenAccountBalance":
                account = self._svm.get_account(Pubkey.from_string(params[0]))
                amount = 0 if account is None else TokenAccount.from_bytes(account.data).amount
                return {"amount": str(amount), "decimals": 6, "uiAmount": amount / 1e6}
            case "getSignatureStatuses":
                return [self._status(signature) for signature in params[0]]
            case _:
                raise KeyError(method)

    def _at(self, options: Any) -> int:  # noqa: ANN401 - any JSON
        return self.slot - (TO_FINAL if _commitment(options) == "finalized" else 0)

    def _context(self, method: str, params: Sequence[Any]) -> int:
        if method == "getSignatureStatuses":
            return self.slot - self.behind
        return self._at(params[-1] if params else None)

    def _account(self, address: str) -> object:
        account = self._svm.get_account(Pubkey.from_string(address))
        if account is None:
            return None
        return {
            "lamports": account.lamports,
            "owner": str(account.owner),
            "data": [base64.b64encode(account.data).decode(), "base64"],
            "executable": account.executable,
            "rentEpoch": 0,
            "space": len(account.data),
        }

    def _status(self, signature: str) -> object:
        landed = self._landed.get(signature)
        if landed is None or landed[0] < self.first_block:
            return None
        slot, error = landed
        status = {"Ok": None} if error is None else {"Err": error}
        return {
            "slot": slot,
            "confirmations": None if self.finality == "finalized" else 1,
            "err": error,
            "status": status,
            "confirmationStatus": self.finality,
        }

    def _send(self, transaction_base64: str) -> dict[str, Any]:
        transaction = VersionedTransaction.from_bytes(base64.b64decode(transaction_base64))
        signature = str(transaction.signatures[0])
        if signature in self.refuses:
            return _error(self.refuses[signature], "invalid transaction")
        if not all(transaction.verify_with_results()):
            return _error(-32003, "Transaction signature verification failure")
        tried = self._svm.simulate_transaction(transaction)
        failed = isinstance(tried, FailedTransactionMetadata)
        if isinstance(tried, FailedTransactionMetadata) and not self.skips_preflight:
            error = _error_json(tried.err())
            data = {"err": error, "logs": tried.meta().logs(), "accounts": None}
            return _error(-32002, f"Transaction simulation failed: {error}", data)
        if self.loses:
            return {"result": signature}
        done = self._svm.send_transaction(transaction)
        error = _error_json(done.err()) if isinstance(done, FailedTransactionMetadata) else None
        assert failed == (error is not None)
        self._landed[signature] = (self.slot, error)
        self.advance(1)
        return {"result": signature}


def _commitment(options: Any) -> str:  # noqa: ANN401 - any JSON
    given = options.get("commitment") if isinstance(options, dict) else None
    return given or "finalized"


def _error(code: int, message: str, data: object = None) -> dict[str, Any]:
    told = {"code": code, "message": message}
    return {"error": told if data is None else {**told, "data": data}}


def _error_json(error: object) -> object:
    """Return a `TransactionError` as nodes write it."""
    match error:
        case TransactionErrorFieldless():
            return str(error).rpartition(".")[2]
        case TransactionErrorInstructionError(index=index, err=InstructionErrorCustom(code=code)):
            return {"InstructionError": [index, {"Custom": code}]}
        case TransactionErrorInstructionError(index=index, err=inner):
            return {"InstructionError": [index, str(inner).rpartition(".")[2]]}
        case _:
            return type(error).__name__.removeprefix("TransactionError")
