from base64 import b64decode, b64encode
from hashlib import sha256

import pytest
import tlog_scales.signing
import tlog_scales.tlog
from hypothesis import given
from hypothesis import strategies as st

from ledger.checkpoint import (
    MAX_SIGNATURES,
    Checkpoint,
    LogKey,
    Note,
    NoteSignature,
    parse_note,
    parse_vkey,
    verify_checkpoint,
)
from ledger.errors import VerificationError
from ledger.merkle import EMPTY_ROOT

ORIGIN = "provider.example/ivxp/ledger"
KEY = LogKey(ORIGIN, b"\x01" * 32)
OTHER_KEY = LogKey("witness.example/w1", b"\x02" * 32)
ROOT = sha256(b"root").digest()
NOTE = KEY.sign_checkpoint(ORIGIN, 1042, ROOT)
TEXT, _, SIGNATURE_LINE = NOTE.partition("\n\n")
ENCODED_SIGNATURE = SIGNATURE_LINE.split(" ")[2][:-1]
ENCODED_ROOT = TEXT.split("\n")[2]

# The worked example of the C2SP signed-note specification (C2SP/C2SP, signed-note.md, "Example").
SPEC_VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SPEC_NOTE = (
    "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ON"
    "ncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
# The example of the Go package golang.org/x/mod/sumdb/note, which the specification grew from.
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_SEED = b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]


def signed(text: str, key: LogKey = KEY) -> str:
    """Return a note over any text, which `sign_checkpoint` would not make."""
    signature = key._private.sign(text.encode())
    return Note(text, (NoteSignature(key._key.name, key._key.key_id, signature),)).encode()


def line_of(note: str) -> str:
    return note.rpartition("\n\n")[2]


def flipped(line: str) -> str:
    """Return the signature line with one bit of the signature itself changed."""
    start, _, encoded = line[:-1].rpartition(" ")
    data = b64decode(encoded)
    return f"{start} {b64encode(data[:-1] + bytes([data[-1] ^ 1])).decode()}\n"


def test_the_specifications_example_parses_and_its_key_id_fits() -> None:
    note = parse_note(SPEC_NOTE)
    assert note.text == "This is an example message.\n"
    assert note.encode() == SPEC_NOTE
    assert parse_vkey(SPEC_VKEY).vkey() == SPEC_VKEY
    assert parse_vkey(SPEC_VKEY).key_id == note.signatures[0].key_id


def test_the_signature_of_the_specifications_example_verifies() -> None:
    # The note is no checkpoint: what is refused is its text, after the signature was accepted.
    with pytest.raises(VerificationError, match="an origin, a size and a root"):
        verify_checkpoint(SPEC_NOTE, SPEC_VKEY, "example.com/foo")
    with pytest.raises(VerificationError, match="does not verify"):
        verify_checkpoint(SPEC_NOTE.replace("This", "That"), SPEC_VKEY, "example.com/foo")


def test_a_key_from_its_seed_has_the_published_vkey() -> None:
    assert LogKey("PeterNeumann", GO_SEED).vkey == GO_VKEY


def test_another_implementation_signs_the_same_bytes() -> None:
    signer = tlog_scales.signing.PlainEd25519Signer(ORIGIN, b"\x01" * 32)

    theirs = tlog_scales.tlog.Checkpoint.make_signed(ORIGIN, 1042, ROOT, [signer])

    assert theirs.serialize() == NOTE
    tlog_scales.tlog.Checkpoint.from_text(NOTE).verify(
        tlog_scales.signing.Vkey.from_string(KEY.vkey)
    )


@given(size=st.integers(1, 2**63 - 1), root=st.binary(min_size=32, max_size=32))
def test_what_was_signed_verifies_and_has_one_encoding(size: int, root: bytes) -> None:
    note = KEY.sign_checkpoint(ORIGIN, size, root)
    assert verify_checkpoint(note, KEY.vkey, ORIGIN) == Checkpoint(ORIGIN, size, root)
    assert parse_note(note).encode() == note


@given(at=st.integers(0, len(NOTE) - 1), character=st.characters(codec="utf-8"))
def test_a_note_with_any_character_changed_is_refused(at: int, character: str) -> None:
    changed = NOTE[:at] + character + NOTE[at + 1 :]
    if changed != NOTE:
        with pytest.raises(VerificationError):
            verify_checkpoint(changed, KEY.vkey, ORIGIN)


@given(text=st.text(alphabet="— +=\nAQ\u2028\u00a0a", max_size=24).map(lambda t: "a\n\n— a " + t))
def test_whatever_parses_is_written_back_byte_for_byte(text: str) -> None:
    try:
        note = parse_note(text)
    except VerificationError:
        return
    assert note.encode() == text


OTHER_FORMS = {
    "empty": "",
    "no signature": TEXT + "\n\n",
    "no empty line": TEXT + "\n" + SIGNATURE_LINE,
    "no final newline": NOTE[:-1],
    "a second final newline": NOTE + "\n",
    "carriage returns": NOTE.replace("\n", "\r\n"),
    "a tab": NOTE.replace("1042", "1042\t"),
    "a NUL": NOTE.replace("1042", "1042\0"),
    "a lone surrogate": NOTE.replace("1042", "1042\ud800"),
    "a hyphen for the dash": NOTE.replace("—", "-"),
    "no space after the dash": NOTE.replace("— ", "—"),
    "two spaces after the dash": NOTE.replace("— ", "—  "),
    "two spaces before the signature": NOTE.replace(" " + ENCODED_SIGNATURE[:4], "  x"),
    "a space at the end": NOTE[:-1] + " \n",
    "a line separator for a newline": NOTE[:-1] + "\u2028",
    "a plus in the name": f"{TEXT}\n\n— a+b {ENCODED_SIGNATURE}\n",
    "a wide space in the name": f"{TEXT}\n\n— a\u2003b {ENCODED_SIGNATURE}\n",
    "no name": f"{TEXT}\n\n—  {ENCODED_SIGNATURE}\n",
    "no signature on the line": f"{TEXT}\n\n— {ORIGIN}\n",
    "a key id alone": f"{TEXT}\n\n— {ORIGIN} AAAAAA==\n",
    "no padding": NOTE.replace("=\n", "\n"),
    "spare bits that are not zero": NOTE[:-1] + "\n— a AAAAAAF=\n",
    "base64 for addresses": NOTE + "— a AAAAAA-_\n",
    "base64 outside ASCII": NOTE + "— a AAAAAAé=\n",
    "too many signatures": NOTE + SIGNATURE_LINE * MAX_SIGNATURES,
}


@pytest.mark.parametrize("note", list(OTHER_FORMS.values()), ids=list(OTHER_FORMS))
def test_a_note_in_another_form_is_refused(note: str) -> None:
    with pytest.raises(VerificationError):
        parse_note(note)


NO_CHECKPOINTS = {
    "an extension line": TEXT + "\nmore\n",
    "a missing root": f"{ORIGIN}\n1042\n",
    "an empty line": f"{ORIGIN}\n\n1042\n{ENCODED_ROOT}\n",
    "an empty origin": f"\n1042\n{ENCODED_ROOT}\n",
    "a leading zero": f"{ORIGIN}\n01042\n{ENCODED_ROOT}\n",
    "a sign": f"{ORIGIN}\n+1042\n{ENCODED_ROOT}\n",
    "a negative size": f"{ORIGIN}\n-1\n{ENCODED_ROOT}\n",
    "an underscore": f"{ORIGIN}\n1_042\n{ENCODED_ROOT}\n",
    "digits of another script": f"{ORIGIN}\n\u0661\u0660\u0664\u0662\n{ENCODED_ROOT}\n",
    "a size beyond 63 bits": f"{ORIGIN}\n{2**63}\n{ENCODED_ROOT}\n",
    "a space after the size": f"{ORIGIN}\n1042 \n{ENCODED_ROOT}\n",
    "a short root": f"{ORIGIN}\n1042\nAAAA\n",
    "a root with spare bits": f"{ORIGIN}\n1042\n{'A' * 42}B=\n",
    "an empty tree with a root": f"{ORIGIN}\n0\n{ENCODED_ROOT}\n",
    "another origin": f"{ORIGIN}2\n1042\n{ENCODED_ROOT}\n",
}


@pytest.mark.parametrize("text", list(NO_CHECKPOINTS.values()), ids=list(NO_CHECKPOINTS))
def test_a_signed_text_that_is_no_checkpoint_of_this_log_is_refused(text: str) -> None:
    with pytest.raises(VerificationError):
        verify_checkpoint(signed(text), KEY.vkey, ORIGIN)


def test_signatures_of_unknown_keys_are_ignored() -> None:
    unknown = flipped(line_of(OTHER_KEY.sign_checkpoint(ORIGIN, 1042, ROOT)))
    same_name = line_of(LogKey(ORIGIN, b"\x03" * 32).sign_checkpoint(ORIGIN, 7, ROOT))
    same_id = SIGNATURE_LINE.replace(ORIGIN, "other.example")

    note = f"{TEXT}\n\n{unknown}{same_name}{same_id}{SIGNATURE_LINE}"

    assert verify_checkpoint(note, KEY.vkey, ORIGIN).size == 1042


def test_a_note_without_a_signature_of_the_known_key_is_refused() -> None:
    with pytest.raises(VerificationError, match="no signature of"):
        verify_checkpoint(NOTE, OTHER_KEY.vkey, ORIGIN)


@pytest.mark.parametrize(
    "lines", [[False, True], [True, False], [False]], ids=["before", "after", "alone"]
)
def test_one_bad_signature_of_the_known_key_spoils_the_note(lines: list[bool]) -> None:
    bad = flipped(SIGNATURE_LINE)
    note = f"{TEXT}\n\n" + "".join(SIGNATURE_LINE if good else bad for good in lines)
    with pytest.raises(VerificationError, match="does not verify"):
        verify_checkpoint(note, KEY.vkey, ORIGIN)


def test_a_signature_of_another_length_is_refused() -> None:
    data = b64decode(ENCODED_SIGNATURE)
    for changed in (data[:-1], data + b"\0"):
        note = f"{TEXT}\n\n— {ORIGIN} {b64encode(changed).decode()}\n"
        with pytest.raises(VerificationError, match="does not verify"):
            verify_checkpoint(note, KEY.vkey, ORIGIN)


def test_the_key_name_may_differ_from_the_origin() -> None:
    note = LogKey("key.example", b"\x04" * 32).sign_checkpoint(ORIGIN, 0, EMPTY_ROOT)
    vkey = LogKey("key.example", b"\x04" * 32).vkey
    assert verify_checkpoint(note, vkey, ORIGIN) == Checkpoint(ORIGIN, 0, EMPTY_ROOT)


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "example.com/foo",
        "example.com/foo+530d903a",
        SPEC_VKEY.replace("530d903a", "530D903A"),
        SPEC_VKEY.replace("530d903a", "530d903b"),
        SPEC_VKEY.replace("530d903a", "0530d903a"),
        SPEC_VKEY.replace("example.com/foo", "example.com/bar"),
        SPEC_VKEY.replace("example.com/foo", ""),
        SPEC_VKEY.replace("example.com/foo", "example.com foo"),
        SPEC_VKEY.replace("+Aeky", "+Beky"),
        SPEC_VKEY + "\n",
        SPEC_VKEY[:-4],
    ],
)
def test_a_vkey_in_another_form_or_with_another_id_is_refused(vkey: str) -> None:
    with pytest.raises(VerificationError):
        parse_vkey(vkey)


def test_a_head_that_could_not_be_read_back_is_not_signed() -> None:
    for origin, size, root, message in [
        ("", 1, ROOT, "one line"),
        ("two\nlines", 1, ROOT, "one line"),
        ("tab\t", 1, ROOT, "control character"),
        (ORIGIN, -1, ROOT, "no size"),
        (ORIGIN, 2**63, ROOT, "no size"),
        (ORIGIN, 1, ROOT[:-1], "32 bytes"),
        (ORIGIN, 0, ROOT, "empty tree"),
    ]:
        with pytest.raises(ValueError, match=message):
            KEY.sign_checkpoint(origin, size, root)


def test_a_key_whose_lines_could_not_be_read_back_is_not_made() -> None:
    for name in ("", "a b", "a+b", "a\nb", "a\u2003b"):
        with pytest.raises(ValueError, match="key name"):
            LogKey(name, b"\x01" * 32)
    with pytest.raises(ValueError, match="32 bytes"):
        LogKey("a", b"\x01" * 31)


def test_the_key_does_not_show_its_seed() -> None:
    assert (b"\x01" * 32).hex() not in repr(KEY)
    assert b64encode(b"\x01" * 32).decode() not in repr(KEY)
