"""`verify.py` as its readers run it, and everything that it has to refuse."""

from __future__ import annotations

import ast
import io
import json
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Final

import pytest

from ledger.evidence_verifier import verifier_source
from ledger.evidence_verify.bags import (
    END,
    SIGNATURE_FILE,
    TAG_FILES,
    TAG_MANIFEST,
    Files,
    require_complete,
)
from ledger.evidence_verify.basics import FORMAT, Bad
from ledger.signing import Signer
from tests.support.bundles import (
    LOG_KEY,
    PROVIDER,
    Told,
    failed,
    flipped,
    opened,
    outcomes,
    repacked,
    resealed,
    roots,
    tell,
)
from tests.support.ledger_files import ARBITER, CLIENT, ORIGIN

SEED: Final = 20260101
TRUSTED: Final = ["--origin", ORIGIN, "--log-key", LOG_KEY.vkey, "--wallet", PROVIDER.address]
SMALL_BYTES: Final = 600
"""Files up to this size are changed at each of their bytes, larger ones at so many:"""
SAMPLES: Final = 300
ZIP_SAMPLES: Final = 400
VERIFIED: Final = ["confirmed", "disputed", "ruled", "refunded", "erased", "hostile"]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    return tell(tmp_path_factory.mktemp("told"))


@pytest.fixture(scope="module")
def ruled(told: Told) -> bytes:
    return told.bundle("ruled")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return verify.py in a folder where modules lie that must never be imported."""
    folder = tmp_path_factory.mktemp("verifier")
    for name in ("json", "hashlib", "argparse", "ledger"):
        (folder / f"{name}.py").write_text("raise SystemExit('imported from the folder')\n")
    path = folder / "verify.py"
    path.write_bytes(verifier_source())
    return path


def without_network() -> list[str]:
    """Return what takes the network away, where this machine lets us."""
    command = ["unshare", "-rn"]
    if shutil.which("unshare") is None:
        return []
    tried = subprocess.run([*command, "true"], check=False, capture_output=True)
    return command if tried.returncode == 0 else []


NO_NETWORK: Final = without_network()


def run(program: Path, *arguments: str, python: str = sys.executable) -> tuple[int, str]:
    """Run the verifier with an empty environment; return its exit code and what it said."""
    command = [*NO_NETWORK, "env", "-i", python, "-I", str(program), *arguments]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=60, cwd=program.parent
    )
    return done.returncode, done.stdout + done.stderr


def saved(folder: Path, data: bytes) -> str:
    path = folder / "evidence.zip"
    path.write_bytes(data)
    return str(path)


def bound(node: ast.stmt) -> list[str]:
    """Return the names that a statement binds where it stands."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else []
    targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
    names = (part for target in targets for part in ast.walk(target))
    return [part.id for part in names if isinstance(part, ast.Name)]


def test_no_name_of_one_part_is_that_of_another() -> None:
    """The parts are joined into one module: the later one would win, for both."""
    names = Counter(name for node in ast.parse(verifier_source()).body for name in bound(node))

    assert [name for name, count in names.items() if count > 1] == []


# As its readers run it


@pytest.mark.parametrize("name", VERIFIED)
def test_a_bundle_verifies_in_an_empty_environment(
    told: Told, program: Path, tmp_path: Path, name: str
) -> None:
    code, said = run(program, saved(tmp_path, told.bundle(name)), *TRUSTED)

    assert (code, said.count("PASS"), "FAIL" in said) == (0, 17, False), said
    assert "WARNING" not in said


@pytest.mark.parametrize(
    "python", ["/usr/bin/python3", "python3.9", "python3.10", "python3.12", "python3.13"]
)
def test_it_runs_on_other_pythons(ruled: bytes, program: Path, tmp_path: Path, python: str) -> None:
    found = shutil.which(python)
    runs = found and not subprocess.run([found, "-V"], check=False, capture_output=True).returncode
    if not found or not runs:
        pytest.skip(f"no {python} here")

    code, said = run(program, saved(tmp_path, ruled), *TRUSTED, python=found)

    assert code == 0, said


def test_every_option_is_compared_with_the_bundle(
    ruled: bytes, program: Path, tmp_path: Path
) -> None:
    path = saved(tmp_path, ruled)
    parties = ["--client", CLIENT.address.upper().replace("X", "x"), "--arbiter", ARBITER.address]

    assert run(program, path, *TRUSTED, *parties)[0] == 0
    assert run(program, path, *TRUSTED, "--client", ARBITER.address)[0] == 1
    assert run(program, path, *TRUSTED, "--arbiter", CLIENT.address)[0] == 1


def test_keys_from_the_bundle_are_no_proof(ruled: bytes, program: Path, tmp_path: Path) -> None:
    path = saved(tmp_path, ruled)
    for given in ([], TRUSTED[:2], TRUSTED[:4], TRUSTED[2:]):
        code, said = run(program, path, *given)
        assert (code, "WARNING" in said) == (3, True), said

    code, said = run(program, path, "--trust-bag")
    assert (code, "WARNING" in said) == (0, True)


def test_what_cannot_be_read_ends_with_2(program: Path, tmp_path: Path) -> None:
    assert run(program, str(tmp_path / "none.zip"), *TRUSTED)[0] == 2
    assert run(program, *TRUSTED)[0] == 2
    assert run(program, "a.zip", "--no-such-option")[0] == 2


@pytest.mark.parametrize("data", [b"", b"PK", b"no zip at all", b"PK\x03\x04" + bytes(100)])
def test_what_is_no_bundle_fails(program: Path, tmp_path: Path, data: bytes) -> None:
    assert run(program, saved(tmp_path, data), *TRUSTED)[0] == 1


def test_the_outcome_can_be_read_by_programs(ruled: bytes, program: Path, tmp_path: Path) -> None:
    code, said = run(program, saved(tmp_path, ruled), *TRUSTED, "--json")
    document = json.loads(said)

    assert (code, document["exit"], document["taken_from_the_bundle"]) == (0, 0, [])
    assert all(check["holds"] for check in document["checks"].values())


def test_the_verifier_inside_is_the_same_program_and_another_is_named(
    ruled: bytes, program: Path, tmp_path: Path
) -> None:
    base, files = opened(ruled)
    assert files["verify.py"] == verifier_source()

    other = resealed(base, {**files, "verify.py": b"print('RESULT: every check holds')\n"})
    code, said = run(program, saved(tmp_path, other), *TRUSTED)

    assert code == 0
    assert "the verify.py in the bundle is another program" in said


def test_common_tools_read_the_bundle(ruled: bytes, tmp_path: Path) -> None:
    base, files = opened(ruled)
    with zipfile.ZipFile(io.BytesIO(ruled)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(f"{base}/{name}") for name in files} == files
        archive.extractall(tmp_path)

    for manifest in ("manifest-sha256.txt", TAG_MANIFEST):
        command = ["sha256sum", "--check", "--strict", "--quiet", manifest]
        subprocess.run(command, check=True, cwd=tmp_path / base)


# Who is trusted


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"origin": "ledger.example/two"}, "E04"),
        ({"wallets": ["0x" + "12" * 20]}, "E04"),
        ({"log_keys": [LOG_KEY.vkey.replace("149410c1", "149410c2")]}, "E04"),
        ({"client": "0x" + "12" * 20}, "E13"),
        ({"arbiter": "0x" + "12" * 20}, "E13"),
        ({"witnesses": [LOG_KEY.vkey.replace(ORIGIN, "witness.example")]}, "E16"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else str(value),
)
def test_another_root_fails(ruled: bytes, change: dict[str, object], check: str) -> None:
    assert check in failed(ruled, roots(**change))


def test_a_history_that_the_client_did_not_see_fails_by_its_own_receipt(told: Told) -> None:
    """All keys are the provider's; the head that the client signed is what it cannot forge."""
    assert failed(told.bundle("forked")) == ["E09"]


# One changed byte


def test_no_byte_of_the_zip_can_be_changed(ruled: bytes) -> None:
    """Every byte of the headers and the directory, and many others."""
    random = Random(SEED)  # noqa: S311 - to be repeatable
    _, files = opened(ruled)
    structure: set[int] = set()
    at = 0
    for name in sorted(files):
        begin = ruled.index(files[name], at + 30 + len(name))
        structure.update(range(at, begin))
        at = begin + len(files[name])
    structure.update(range(at, len(ruled)))
    places = structure | set(random.sample(range(len(ruled)), ZIP_SAMPLES))

    kept = [place for place in places if not failed(flipped(ruled, place, random))]

    assert kept == [], f"seed {SEED}"
    assert len(structure) > len(files) * (30 + 46)


def places(data: bytes, random: Random, small: int, samples: int) -> list[int]:
    if len(data) <= small:
        return list(range(len(data)))
    return sorted(random.sample(range(len(data)), min(samples, len(data))))


def test_no_byte_of_a_file_can_be_changed_by_who_packs_it_again(ruled: bytes) -> None:
    random = Random(SEED)  # noqa: S311 - to be repeatable
    base, files = opened(ruled)
    for file, data in files.items():
        assert failed(repacked(base, {**files, file: flipped(data, 0, random)})) == ["E02"] or (
            file == SIGNATURE_FILE
        )

    kept = [
        (file, place)
        for file, data in files.items()
        if file != SIGNATURE_FILE
        for place in places(data, random, SMALL_BYTES, SAMPLES)
        if is_complete({**files, file: flipped(data, place, random)})
    ]

    assert kept == [], f"seed {SEED}"


def test_no_byte_of_the_seal_can_be_changed(ruled: bytes) -> None:
    """No list holds its hash, as it is over the lists."""
    random = Random(SEED)  # noqa: S311 - to be repeatable
    base, files = opened(ruled)
    seal = files[SIGNATURE_FILE]

    kept = [
        place
        for place in range(len(seal))
        if not failed(repacked(base, {**files, SIGNATURE_FILE: flipped(seal, place, random)}))
    ]

    assert kept == [], f"seed {SEED}"


def is_complete(files: Files) -> bool:
    """Whether check E02 holds, which needs no other."""
    try:
        require_complete(files)
    except Bad:
        return False
    return True


@pytest.mark.parametrize("name", ["confirmed", "ruled"])
def test_no_byte_of_a_file_can_be_changed_by_the_provider_itself(told: Told, name: str) -> None:
    """It signs the changed bundle again; the events, their proofs and what follows betray it."""
    random = Random(SEED)  # noqa: S311 - to be repeatable
    base, files = opened(told.bundle(name))
    made_by_signing = {TAG_MANIFEST, "manifest-sha256.txt", SIGNATURE_FILE, "verify.py"}

    kept = [
        (file, place)
        for file, data in files.items()
        if file not in made_by_signing
        for place in places(data, random, 8, 8)
        if not failed(resealed(base, {**files, file: flipped(data, place, random)}))
    ]

    assert kept == [], f"seed {SEED}"


# Removed, added and renamed files


def test_no_file_can_be_removed(ruled: bytes) -> None:
    base, files = opened(ruled)
    for file in files:
        rest = {name: data for name, data in files.items() if name != file}
        assert failed(repacked(base, rest)), file
        if file.startswith("data/"):
            assert failed(resealed(base, rest)), file


@pytest.mark.parametrize(
    "added",
    [
        "data/more.txt",
        "data/events/0010.json",
        "data/events/9999.json",
        "data/keys/0009.tlog-proof",
        "data/client/0001-quoted.txt",
        "data/deliverable/run-me.exe",
        "more.txt",
        "fetch.txt",
    ],
)
def test_no_file_can_be_added(ruled: bytes, added: str) -> None:
    base, files = opened(ruled)
    for data in (b"", b"x", files["data/events/0009.json"]):
        assert failed(repacked(base, {**files, added: data}))
        assert failed(resealed(base, {**files, added: data}))


def test_no_file_can_be_renamed(ruled: bytes) -> None:
    base, files = opened(ruled)
    for file in [name for name in files if name.startswith("data/")]:
        renamed = {**files, file + "x": files[file]}
        del renamed[file]
        assert failed(repacked(base, renamed)), file
        assert failed(resealed(base, renamed)), file


def test_no_two_files_can_be_exchanged(ruled: bytes) -> None:
    base, files = opened(ruled)
    names = sorted(name for name in files if name.startswith("data/"))
    for first, second in pairwise(names):
        if files[first] != files[second]:
            swapped = {**files, first: files[second], second: files[first]}
            assert failed(resealed(base, swapped)), (first, second)


def test_the_last_events_cannot_be_left_out(ruled: bytes) -> None:
    """Without the refund and the ruling, the order head says that there were more."""
    base, files = opened(ruled)
    for last in (9, 8):
        for folder, kind in (("events", "json"), ("proofs", "tlog-proof")):
            del files[f"data/{folder}/{last:04d}.{kind}"]
        del files[f"data/checkpoints/base/{last:04d}.txt"]
        assert "E10" in failed(resealed(base, files))


def test_a_bundle_goes_by_no_other_name(ruled: bytes) -> None:
    base, files = opened(ruled)
    for other in (base + "0", base.replace("evidence", "evidenca"), "x"):
        assert failed(repacked(other, files))


# The container


def deflated(data: bytes) -> bytes:
    base, files = opened(data)
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            archive.writestr(f"{base}/{name}", files[name])
    return found.getvalue()


def twice(data: bytes) -> bytes:
    """Put the last file into the zip again, where tools that read backwards find it first."""
    found = io.BytesIO(data)
    with zipfile.ZipFile(found, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(archive.namelist()[-1], b"another")
    return found.getvalue()


@pytest.mark.parametrize(
    "make",
    [
        lambda data: data + b"\x00",
        lambda data: b"\x00" + data,
        lambda data: data + data,
        lambda data: data[:-1],
        lambda data: data[: -END.size] + data[-END.size :] + data[-END.size :],
        lambda data: data[:-2] + b"\x02\x00hi",
        deflated,
        twice,
    ],
    ids=["trailing", "leading", "doubled", "cut", "two ends", "comment", "deflated", "twice"],
)
def test_nothing_hides_in_the_zip(ruled: bytes, make: Callable[[bytes], bytes]) -> None:
    assert failed(make(ruled)) == ["E01"]


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "data/../../x", "data\\x", "data/ü"])
def test_names_that_lead_elsewhere_are_refused(ruled: bytes, name: str) -> None:
    base, files = opened(ruled)
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w") as archive:
        for file in sorted({**files, name: b""}):
            archive.writestr(f"{base}/{file}", files.get(file, b""))

    assert failed(found.getvalue()) == ["E01"]


# Semantic forgeries by the provider


def forged(files: Files, file: str, old: str, new: str) -> Files:
    text = files[file].decode()
    assert old in text, (file, old)
    return {**files, file: text.replace(old, new).encode()}


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("data/case.json", '"status": "disputed"', '"status": "refunded"'),
        ("data/case.json", "attested-by-provider", "proven"),
        ("data/report.html", "provider's word", "proven"),
        ("data/payment/transfers.json", "2.500000", "5.000000"),
        ("data/client/messages.json", "dispute_ruled", "confirmed"),
        ("data/content/0006-statement.txt", "not", "now"),
        ("data/content/openings.json", '"open"', '"not_held"'),
        ("data/redactions.json", "[]", "[\n 1\n]"),
        ("data/terms/terms.json", '"price": "5000000"', '"price": "4000000"'),
        ("data/checkpoints/final.note", ORIGIN, "ledger.example/two"),
        ("data/terms/refund-policy.txt", "policy", "no refunds"),
        ("data/order-head.json", '\\"seq\\":9', '\\"seq\\":8'),
        ("README.txt", "Quality", "Quantity"),
        ("bag-info.txt", f"Evidence-Format: {FORMAT}", f"Evidence-Format: {FORMAT + 1}"),
    ],
)
def test_the_provider_cannot_say_otherwise_than_its_events(
    ruled: bytes, file: str, old: str, new: str
) -> None:
    base, files = opened(ruled)
    assert failed(resealed(base, forged(files, file, old, new)))


def test_an_event_that_the_wallet_signed_anew_has_no_place_in_the_log(ruled: bytes) -> None:
    base, files = opened(ruled)
    event = json.loads(files["data/events/0009.json"])["event"]
    event["body"]["amount"] = event["body"]["transfers"][0]["amount"] = "5000000"
    text = json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    value = PROVIDER.sign(b"IVXP-LEDGER-EVENT/1\n" + text)
    entry = b'{"event":%b,"sig":{"alg":"eip191","by":"%b","value":"%b"}}' % (
        text,
        PROVIDER.address.encode(),
        value.encode(),
    )

    found = failed(resealed(base, {**files, "data/events/0009.json": entry}))
    assert {"E06", "E10", "E17"} <= set(found)
    assert "E07" not in found


def test_another_wallet_cannot_seal_a_bundle(ruled: bytes) -> None:
    base, files = opened(ruled)

    assert failed(resealed(base, files, Signer(b"\x07" * 32))) == ["E11"]


def test_what_is_left_out_is_listed_and_still_verifies(told: Told) -> None:
    fields = ("deliverable", "description", "client_name", "statement")
    base, files = opened(told.bundle("ruled", *fields))
    listed = json.loads(files["data/redactions.json"])

    assert failed(told.bundle("ruled", *fields)) == []
    assert {(each["field"], each["state"]) for each in listed} == {
        (field, "redacted") for field in fields
    }
    assert "data/deliverable/content.bin" not in files
    assert b"this is not what I asked for" not in b"".join(files.values())
    # Nobody can put other words in their place.
    for opening in json.loads(files["data/content/openings.json"]):
        if opening["field"] == "description":
            found = {**files, "data/content/0001-description.txt": b"other words"}
            assert failed(resealed(base, found))


def test_erased_content_is_listed_with_the_event_that_says_so(told: Told) -> None:
    _, files = opened(told.bundle("erased"))
    [listed] = json.loads(files["data/redactions.json"])

    assert (listed["field"], listed["state"]) == ("deliverable", "erased")
    assert listed["why"].startswith("erased with event 8")
    assert any("Erased" in line for line in json.loads(files["data/case.json"])["not_proven"])


def test_every_check_says_what_it_found(ruled: bytes) -> None:
    found = {outcome.name: outcome.text for outcome in outcomes(ruled)}

    assert len(found) == 17
    assert found["E12"] == "disputed; received 5.000000 USDC, refunded 2.500000 USDC"
    assert set(TAG_FILES) <= set(opened(ruled)[1])
