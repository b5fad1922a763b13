"""Logs and witnesses for tests: the log written out by hand, the witness a process of its own.

Nothing of the log side is our own code: RFC 6962 as the text has it, notes and cosignatures by
hand, Ed25519 by `cryptography`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from scripts.witness import WitnessConfig, run_witness

START_SECONDS = 60
_FORKS = multiprocessing.get_context("forkserver")
# A process is forked with everything imported: a witness is killed and started many times.
_FORKS.set_forkserver_preload([__name__])


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Return the Merkle tree hash (RFC 6962, 2.1)."""
    if len(leaves) <= 1:
        return leaves[0] if leaves else sha256(b"").digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return node(root_of(leaves[:split]), root_of(leaves[split:]))


def proof_of(old: int, leaves: Sequence[bytes]) -> list[bytes]:
    """Return the consistency proof from the first `old` leaves to all (RFC 6962, 2.1.2)."""
    return _subproof(old, leaves, whole=True) if 0 < old < len(leaves) else []


def _subproof(old: int, leaves: Sequence[bytes], *, whole: bool) -> list[bytes]:
    if old == len(leaves):
        return [] if whole else [root_of(leaves)]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if old <= split:
        return [*_subproof(old, leaves[:split], whole=whole), root_of(leaves[split:])]
    return [*_subproof(old - split, leaves[split:], whole=False), root_of(leaves[:split])]


@dataclass
class Log:
    """A log that signs whatever it is told to; `fork` makes another history of it."""

    origin: str
    seed: bytes
    leaves: list[bytes] = field(default_factory=list)

    @property
    def vkey(self) -> str:
        return vkey_of(self.origin, self._private.public_key().public_bytes_raw())

    @property
    def _private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)

    def grow(self, count: int, word: str = "") -> Log:
        """Add leaves; the word makes them other leaves than those of another history."""
        for _ in range(count):
            self.leaves.append(sha256(f"{word}{len(self.leaves)}".encode()).digest())
        return self

    def fork(self, size: int) -> Log:
        """Return a log of the same key that has the first leaves in common."""
        return Log(self.origin, self.seed, self.leaves[:size])

    def root(self, size: int) -> bytes:
        return root_of(self.leaves[:size])

    def note(self, size: int | None = None, extension: str = "") -> str:
        size = len(self.leaves) if size is None else size
        text = f"{self.origin}\n{size}\n{b64encode(self.root(size)).decode()}\n{extension}"
        return text + "\n" + self.signature(text)

    def signature(self, text: str) -> str:
        key_id = bytes.fromhex(self.vkey.split("+")[1])
        signed = b64encode(key_id + self._private.sign(text.encode())).decode()
        return f"— {self.origin} {signed}\n"

    def submission(self, old: int, size: int | None = None) -> str:
        """Return the body of `add-checkpoint` that goes on from a size."""
        size = len(self.leaves) if size is None else size
        lines = [b64encode(h).decode() + "\n" for h in proof_of(old, self.leaves[:size])]
        return f"old {old}\n{''.join(lines)}\n{self.note(size)}"


def checked_time(note_text: str, line: str, vkey: str) -> int:
    """Return the time of a cosignature's line over a note's text, after checking it by hand."""
    name, key_id, encoded = vkey.split("+", 2)
    key = b64decode(encoded, validate=True)
    dash, said_name, said = line.rstrip("\n").split(" ")
    data = b64decode(said, validate=True)
    assert (dash, said_name, data[:4].hex()) == ("—", name, key_id)
    assert sha256(name.encode() + b"\n" + key).hexdigest()[:8] == key_id
    assert (key[:1], len(key), len(data)) == (b"\x04", 33, 4 + 8 + 64)
    time = int.from_bytes(data[4:12])
    message = f"cosignature/v1\ntime {time}\n{note_text}".encode()
    Ed25519PublicKey.from_public_bytes(key[1:]).verify(data[12:], message)
    return time


def vkey_of(name: str, public: bytes) -> str:
    """Return the verifier key of a log that signs with Ed25519."""
    key = b"\x01" + public
    key_id = sha256(name.encode() + b"\n" + key).digest()[:4]
    return f"{name}+{key_id.hex()}+{b64encode(key).decode()}"


def text_of(note: str) -> str:
    """Return the signed text of a note."""
    return note.rpartition("\n\n")[0] + "\n"


def head_of(note: str) -> tuple[int, bytes]:
    """Return size and root of a checkpoint."""
    _, size, root, *_ = note.split("\n")
    return int(size), b64decode(root, validate=True)


def hash_of(origin: str) -> str:
    return sha256(origin.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Said:
    """What a witness answered."""

    status: int
    text: str
    media_type: str = ""


async def submit(session: aiohttp.ClientSession, url: str, body: str | bytes) -> Said:
    """Post to `add-checkpoint` as bytes."""
    data = body.encode() if isinstance(body, str) else body
    async with session.post(f"{url}/add-checkpoint", data=data) as response:
        kind = response.headers.get("Content-Type", "")
        return Said(response.status, (await response.read()).decode(), kind)


async def newest(session: aiohttp.ClientSession, url: str, origin: str) -> Said:
    """Ask what a witness holds of a log."""
    async with session.get(f"{url}/{hash_of(origin)}/checkpoint") as response:
        return Said(response.status, (await response.read()).decode())


class WitnessProcess:
    """A witness with its own record and key, and while it runs a process. `kill` is SIGKILL.

    It keeps its port over a restart, as the services that ask it know its URL.
    """

    def __init__(self, folder: Path, *logs: str, name: str = "witness.test/w1") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.logs = logs
        self.name = name
        self.url = ""
        self.vkey = ""
        self._port = 0
        self._process: BaseProcess | None = None

    def config(self, port: int = 0) -> WitnessConfig:
        return WitnessConfig(
            listen=f"127.0.0.1:{port}",
            state=self.folder / "witness.db",
            key=f"file:{self.folder / 'witness.json'}",
            logs=self.logs,
            name=self.name,
        )

    def start(self, point: str = "") -> WitnessProcess:
        """Start and wait until it listens. At a point, if one is named, it will kill itself."""
        ours, theirs = _FORKS.Pipe(duplex=False)
        self._process = _FORKS.Process(
            target=_run, args=(self.config(self._port), theirs, point), daemon=True
        )
        self._process.start()
        theirs.close()
        with ours:
            assert ours.poll(START_SECONDS), "the witness does not start"
            self.url = _after(ours.recv(), "listening on ")
            self.vkey = _after(ours.recv(), "vkey ")
        self._port = int(self.url.rpartition(":")[2])
        return self

    def kill(self) -> None:
        """End the process as a power cut would end it."""
        self._signal(signal.SIGKILL)

    def stop(self) -> int:
        """Ask the process to end and return its exit code."""
        return self._signal(signal.SIGTERM)

    def wait(self) -> int:
        """Return the exit code of a process that ends by itself."""
        assert self._process is not None
        self._process.join(START_SECONDS)
        code = self._process.exitcode
        assert code is not None, "the witness does not end"
        self._process.close()
        self._process = None
        return code

    def _signal(self, number: signal.Signals) -> int:
        if self._process is None:
            return 0
        assert self._process.pid is not None
        if self._process.is_alive():
            os.kill(self._process.pid, number)
        return self.wait()


@contextmanager
def witnessing(folder: Path, *logs: str, name: str = "witness.test/w1") -> Iterator[WitnessProcess]:
    """Run a witness for the length of a block."""
    witness = WitnessProcess(folder, *logs, name=name).start()
    try:
        yield witness
    finally:
        witness.kill()


POINTS = ("BEGIN", "SELECT", "INSERT", "COMMIT", "answer")
"""Where a witness can kill itself: before these statements of an advance, or before its answer."""


def _run(config: WitnessConfig, pipe: Connection, point: str) -> None:
    if point:
        _die_at(point)
    run_witness(config, say=pipe.send)


def _die_at(point: str) -> None:
    """Have this process kill itself at a point of its first advance."""
    from ledger import witness_state  # noqa: PLC0415 - only in the process that dies

    advance = witness_state.WitnessState.advance

    def advance_and_die(
        self: witness_state.WitnessState,
        origin: str,
        decide: Callable[[witness_state.Cosigned | None], witness_state.Cosigned],
    ) -> witness_state.Cosigned:
        def look(statement: str) -> None:
            if statement.startswith(point):
                os.kill(os.getpid(), signal.SIGKILL)

        self._connection.set_trace_callback(look)
        cosigned = advance(self, origin, decide)
        if point == "answer":
            os.kill(os.getpid(), signal.SIGKILL)
        return cosigned

    witness_state.WitnessState.advance = advance_and_die  # type: ignore[method-assign]


def _after(line: str, start: str) -> str:
    assert line.startswith(start), line
    return line.removeprefix(start)
