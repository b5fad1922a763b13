"""The container: one zip file in one form, and in it a BagIt bag whose lists are complete."""

from __future__ import annotations

import hashlib
import re
import struct
import zlib

from ledger.evidence_verify.basics import Bad, Doc, canonical, fail, need, parse_pretty, pretty

Files = dict[str, bytes]

MAX_BAG_BYTES = 256 * 2**20
MAX_FILES = 60_000
MAX_NAME = 300
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)+", re.ASCII)

LOCAL = struct.Struct("<4s5H3I2H")
CENTRAL = struct.Struct("<4s6H3I5H2I")
END = struct.Struct("<4s4H2IH")
LOCAL_MARK, CENTRAL_MARK, END_MARK = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
VERSION, UNIX = 10, 3 << 8
MODE = 0o100644 << 16
DATE = 1 << 5 | 1
"""1980-01-01, the zero of the format: when things happened is said inside, in one time zone."""

BAGIT = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
PAYLOAD = "data/"
MANIFEST = "manifest-sha256.txt"
TAG_MANIFEST = "tagmanifest-sha256.txt"
SIGNATURE_FILE = "tagmanifest-sha256.txt.sig"
TAG_FILES = ("README.txt", "bag-info.txt", "bagit.txt", MANIFEST, "verify.py")
PREFIX = b"IVXP-LEDGER-EVIDENCE/1\n"


def build_zip(base: str, files: Files) -> bytes:
    """Return the one zip of these files below one folder: sorted, stored, nothing else in it."""
    local, central, at = [], [], 0
    for name in sorted(files):
        data, path = files[name], f"{base}/{name}".encode("ascii")
        common = (0, 0, 0, DATE, zlib.crc32(data), len(data), len(data), len(path), 0)
        head = LOCAL.pack(LOCAL_MARK, VERSION, *common) + path
        local += [head, data]
        tail = (0, 0, 0, MODE, at)
        central.append(CENTRAL.pack(CENTRAL_MARK, UNIX | VERSION, VERSION, *common, *tail) + path)
        at += len(head) + len(data)
    listed = b"".join(central)
    number = len(files)
    end = END.pack(END_MARK, 0, 0, number, number, len(listed), at, 0)
    return b"".join([*local, listed, end])


def read_zip(data: bytes) -> tuple[str, Files]:
    """Return the folder's name and its files; every byte of the zip has to be as we write it.

    Each file is read once, from the front. The zip is then made again and compared, so nothing can
    hide in a second directory, between the files, in a comment, or behind the end.
    """
    need(len(data) <= MAX_BAG_BYTES, f"the file is longer than {MAX_BAG_BYTES} bytes")
    found: Files = {}
    at = 0
    while data[at : at + 4] == LOCAL_MARK:
        need(len(found) < MAX_FILES, f"more than {MAX_FILES} files")
        name, at, end = _local(data, at)
        need(name not in found, f"{name} stands in the zip twice")
        found[name] = data[at:end]
        at = end
    need(found, "this is no zip of an evidence bundle")
    base = next(iter(found)).partition("/")[0]
    need(
        all(name.startswith(base + "/") for name in found), "the files lie in more than one folder"
    )
    files = {name[len(base) + 1 :]: value for name, value in found.items()}
    need(list(files) == sorted(files), "the files are not in their order")
    need(build_zip(base, files) == data, "the zip is not in its one form")
    return base, files


def _local(data: bytes, at: int) -> tuple[str, int, int]:
    """Return a file's name and where its bytes begin and end."""
    need(at + LOCAL.size <= len(data), "the zip breaks off")
    fields = LOCAL.unpack_from(data, at)
    size, length = fields[7], fields[9]
    begin = at + LOCAL.size + length
    need(length <= MAX_NAME and begin + size <= len(data), "a file in the zip breaks off")
    raw = data[at + LOCAL.size : begin]
    try:
        name = raw.decode("ascii")
    except UnicodeDecodeError as error:
        raise Bad("a file's name is no plain text") from error
    need(NAME.fullmatch(name), f"{name!r} is no file name of a bundle")
    return name, begin, begin + size


def manifest_of(files: Files, names: list[str]) -> bytes:
    lines = [f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(names)]
    return "".join(lines).encode()


def with_manifests(files: Files) -> Files:
    """Add the two manifests to payload and tag files."""
    payload = [name for name in files if name.startswith(PAYLOAD)]
    complete = {**files, MANIFEST: manifest_of(files, payload)}
    return {**complete, TAG_MANIFEST: manifest_of(complete, list(TAG_FILES))}


def require_complete(files: Files) -> None:
    """Raise `Bad` unless the manifests name every file with its hash, and no other file."""
    expected = {TAG_MANIFEST, SIGNATURE_FILE, *TAG_FILES}
    others = {name for name in files if not name.startswith(PAYLOAD)}
    for name in sorted(expected - others):
        fail(f"{name} is missing")
    for name in sorted(others - expected):
        fail(f"{name} does not belong here")
    need(files["bagit.txt"] == BAGIT, "bagit.txt is not that of this form")
    again = with_manifests({n: d for n, d in files.items() if n not in (MANIFEST, TAG_MANIFEST)})
    for name in (TAG_MANIFEST, MANIFEST):
        need(again[name] == files[name], f"{name}: " + _difference(files[name], again[name]))


def _difference(said: bytes, made: bytes) -> str:
    listed, present = (_by_name(text) for text in (said, made))
    for name in sorted({*listed, *present}):
        if name not in present:
            return f"{name} is missing"
        if name not in listed:
            return f"{name} is not on the list"
        if listed[name] != present[name]:
            return f"{name} was changed"
    return "not in its one form"


def _by_name(text: bytes) -> dict[str, str]:
    lines = text.decode("utf-8", "replace").split("\n")
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines) if name}


def seal_text(log: str, stream: str, size: int, tag_manifest: bytes) -> bytes:
    """Return what the exporter's wallet signs: this bag, whole, as of this tree."""
    digest = hashlib.sha256(tag_manifest).hexdigest()
    return PREFIX + canonical({"log": log, "stream": stream, "size": size, "tagmanifest": digest})


def signed_doc(text: bytes, signer: str, signature: str) -> bytes:
    """Return a signed text as the bag holds it."""
    return pretty({"text": text.decode(), "signer": signer, "signature": signature})


def parse_signed_doc(data: bytes) -> tuple[bytes, str, str]:
    """Return text, signer and signature."""
    value = parse_pretty(data)
    known = isinstance(value, dict) and set(value) == {"text", "signer", "signature"}
    need(known and all(isinstance(each, str) for each in value.values()), "no signed text")
    said: Doc = value
    return said["text"].encode(), said["signer"], said["signature"]
