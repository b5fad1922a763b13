from base64 import b64decode, b64encode
from hashlib import sha256
from pathlib import Path

import pytest
import tlog_scales.signing
import tlog_scales.tlog
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from ledger.checkpoint import LogKey, Note, parse_note
from ledger.cosignature import (
    Cosigner,
    WitnessKey,
    cosignatures,
    cosigned_answer,
    parse_witness_key,
)
from ledger.errors import VerificationError

ASSETS = Path(__file__).resolve().parents[1] / "assets" / "witness"
COSIGNED = (ASSETS / "cosigned.note").read_text("utf-8")
VKEYS = (ASSETS / "keys.txt").read_text("utf-8").split()

# The worked example of C2SP/C2SP, tlog-cosignature.md.
EXAMPLE = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q"
    "1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2"
    "oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)
EXAMPLE_TIME = 1679315147

ORIGIN = "provider.example/ivxp/ledger"
LOG = LogKey(ORIGIN, b"\x01" * 32)
NOTE = LOG.sign_checkpoint(ORIGIN, 1042, sha256(b"root").digest())
TEXT = parse_note(NOTE).text
WITNESS = Cosigner("witness.example/w1", b"\x02" * 32)
OTHER = Cosigner("witness.example/w2", b"\x03" * 32)
AT = 1_763_800_000


def cosigned(*signers: Cosigner, at: int = AT) -> str:
    return NOTE + "".join(signer.cosign(TEXT, at).line() for signer in signers)


def times(note: str, *keys: WitnessKey) -> dict[str, int]:
    return {c.key.name: c.at for c in cosignatures(parse_note(note), keys)}


def flipped(line: str) -> str:
    """Return a signature line with one bit of the signature itself changed."""
    start, _, encoded = line[:-1].rpartition(" ")
    data = b64decode(encoded)
    return f"{start} {b64encode(data[:-1] + bytes([data[-1] ^ 1])).decode()}\n"


def test_the_cosignatures_of_real_witnesses_verify() -> None:
    keys = [parse_witness_key(vkey) for vkey in VKEYS]

    found = cosignatures(parse_note(COSIGNED), keys)

    assert [key.vkey() for key in keys] == VKEYS
    assert [cosignature.key for cosignature in found] == keys
    assert {cosignature.at for cosignature in found} == {1786689302, 1786689303, 1786689304}


@pytest.mark.parametrize("vkey", VKEYS)
def test_a_real_cosignature_of_another_checkpoint_is_refused(vkey: str) -> None:
    changed = parse_note(COSIGNED.replace("\n7341\n", "\n7342\n"))

    with pytest.raises(VerificationError, match="does not verify"):
        cosignatures(changed, [parse_witness_key(vkey)])


def test_the_specifications_example_has_the_form_that_is_written_here() -> None:
    line = parse_note(EXAMPLE).signatures[1]
    ours = WITNESS.cosign(parse_note(EXAMPLE).text, EXAMPLE_TIME)

    assert line.name == "witness.example.com/w1"
    assert len(line.signature) == len(ours.signature) == 8 + 64
    assert line.signature[:8] == ours.signature[:8] == EXAMPLE_TIME.to_bytes(8)


def test_the_signed_message_is_the_one_of_the_specification() -> None:
    signature = WITNESS.cosign(parse_note(EXAMPLE).text, EXAMPLE_TIME).signature[8:]

    public = Ed25519PublicKey.from_public_bytes(WITNESS.key.public_key)
    public.verify(
        signature,
        b"cosignature/v1\ntime 1679315147\nexample.com/behind-the-sofa\n20852163\n"
        b"CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
    )
    with pytest.raises(InvalidSignature):
        public.verify(signature, parse_note(EXAMPLE).text.encode())


def test_the_key_id_counts_the_type_of_cosignatures() -> None:
    public = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32).public_key().public_bytes_raw()
    key_id = sha256(b"witness.example/w1\n\x04" + public).digest()[:4]

    assert WITNESS.key.key_id == key_id
    encoded = b64encode(b"\x04" + public).decode()
    assert WITNESS.key.vkey() == f"witness.example/w1+{key_id.hex()}+{encoded}"
    assert parse_witness_key(WITNESS.key.vkey()) == WITNESS.key


def test_another_implementation_verifies_what_is_cosigned_here() -> None:
    checkpoint = tlog_scales.tlog.Checkpoint.from_text(cosigned(WITNESS, OTHER))
    keys = tlog_scales.signing.VkeySet(
        *(
            tlog_scales.signing.Vkey.from_string(vkey)
            for vkey in (LOG.vkey, WITNESS.key.vkey(), OTHER.key.vkey())
        )
    )

    valid = keys.verify(checkpoint.signatures, checkpoint)

    assert {vkey.name for vkey, _ in valid} == {ORIGIN, "witness.example/w1", "witness.example/w2"}
    theirs = tlog_scales.signing.Ed25519CosignatureVerifier.get_timestamp
    assert theirs(checkpoint.signatures[1].payload) == AT


@given(
    size=st.integers(0, 2**63 - 1),
    at=st.integers(1, 2**63 - 1),
    more=st.text("abc é\n", max_size=9),
)
def test_whatever_is_cosigned_verifies_and_nothing_else_does(size: int, at: int, more: str) -> None:
    text = f"{ORIGIN}\n{size}\nroot\n{more}\n"
    line = WITNESS.cosign(text, at)

    found = cosignatures(Note(text, (line,)), [WITNESS.key])

    assert [(c.key, c.at, c.signature) for c in found] == [(WITNESS.key, at, line)]
    with pytest.raises(VerificationError):
        cosignatures(Note(text + "x\n", (line,)), [WITNESS.key])


def test_lines_of_unknown_keys_mean_nothing() -> None:
    note = cosigned(WITNESS, OTHER)
    broken = NOTE + flipped(OTHER.cosign(TEXT, AT).line()) + WITNESS.cosign(TEXT, AT).line()
    # The log's own line, and a key that shares a name or an id with a known one, are unknown too.
    same_name = Cosigner("witness.example/w1", b"\x04" * 32)

    assert times(note, WITNESS.key) == {"witness.example/w1": AT}
    assert times(broken, WITNESS.key) == {"witness.example/w1": AT}
    assert times(cosigned(same_name), WITNESS.key) == {}
    assert times(NOTE, WITNESS.key) == {}


def test_a_known_key_whose_line_fails_spoils_the_note() -> None:
    good, bad = WITNESS.cosign(TEXT, AT).line(), flipped(WITNESS.cosign(TEXT, AT).line())

    for lines in (bad, good + bad, bad + good):
        with pytest.raises(VerificationError, match="does not verify"):
            cosignatures(parse_note(NOTE + lines), [WITNESS.key])


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        AT.to_bytes(8),
        WITNESS.cosign(TEXT, AT).signature[:-1],
        WITNESS.cosign(TEXT, AT).signature + b"\0",
        WITNESS.cosign(TEXT, AT).signature[8:],
        bytes(8) + WITNESS.cosign(TEXT, AT).signature[8:],
        b"\x80" + WITNESS.cosign(TEXT, AT).signature[1:],
        (AT + 1).to_bytes(8) + WITNESS.cosign(TEXT, AT).signature[8:],
    ],
    ids=[
        "nothing",
        "a time alone",
        "too short",
        "too long",
        "no time",
        "time 0",
        "time 2**63",
        "another time",
    ],
)
def test_a_cosignature_in_another_form_is_refused(signature: bytes) -> None:
    encoded = b64encode(WITNESS.key.key_id + signature + b"\0" * (not signature)).decode()

    with pytest.raises(VerificationError, match="cosignature of witness"):
        cosignatures(parse_note(f"{NOTE}— witness.example/w1 {encoded}\n"), [WITNESS.key])


@pytest.mark.parametrize("at", [0, -1, 2**63])
def test_nothing_is_cosigned_outside_of_time(at: int) -> None:
    with pytest.raises(ValueError, match="after 1970"):
        WITNESS.cosign(TEXT, at)


KEY = b64encode(b"\x04" + WITNESS.key.public_key).decode()
KEY_ID = WITNESS.key.key_id.hex()


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "witness.example/w1",
        f"witness.example/w1+{KEY_ID}",
        f"witness.example/w1+{KEY_ID.upper()}+{KEY}",
        f"witness.example/w1+00000000+{KEY}",
        f"witness.example/w2+{KEY_ID}+{KEY}",
        f"witness.example/w1+{KEY_ID}+{KEY}\n",
        f" witness.example/w1+{KEY_ID}+{KEY}",
        f"witness.example/w\x001+{KEY_ID}+{KEY}",
        f"witness.example/w1+{KEY_ID}+{KEY[:-1]}",
        f"witness.example/w1+{KEY_ID}+{KEY}AAAA",
        f"+{KEY_ID}+{KEY}",
        LOG.vkey,
    ],
)
def test_a_text_that_is_no_vkey_of_a_witness_is_refused(vkey: str) -> None:
    with pytest.raises(VerificationError):
        parse_witness_key(vkey)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\x1fb", "a\u2003b"])
def test_a_name_that_no_key_may_have_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a key name"):
        Cosigner(name, b"\x02" * 32)


def test_a_cosigner_hides_its_seed() -> None:
    assert "02" * 8 not in repr(WITNESS)
    assert repr(b"\x02") not in repr(vars(WITNESS))


def test_an_answers_line_is_taken_and_foreign_lines_are_dropped() -> None:
    line = WITNESS.cosign(TEXT, AT).line()
    answer = OTHER.cosign(TEXT, AT).line() + line + "— junk AAAAAAAA\n"

    assert cosigned_answer(NOTE, answer, WITNESS.key).signature.line() == line


def test_of_several_lines_the_newest_is_taken() -> None:
    answer = "".join(WITNESS.cosign(TEXT, AT + n).line() for n in (1, 3, 2))

    assert cosigned_answer(NOTE, answer, WITNESS.key).at == AT + 3


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "\n",
        "thank you\n",
        OTHER.cosign(TEXT, AT).line(),
        WITNESS.cosign(TEXT, AT).line()[:-1],
        WITNESS.cosign(TEXT, AT).line() + "\n",
        WITNESS.cosign(TEXT, AT).line() + "\n" + WITNESS.cosign(TEXT, AT).line(),
        WITNESS.cosign(TEXT, AT).line() * 64,
        flipped(WITNESS.cosign(TEXT, AT).line()),
        WITNESS.cosign(TEXT + "more\n", AT).line(),
    ],
    ids=[
        "nothing",
        "an empty line",
        "words",
        "another witness",
        "no newline",
        "a line too many",
        "a text of its own",
        "too many",
        "a bad signature",
        "of another text",
    ],
)
def test_an_answer_without_the_witnesss_signature_is_refused(answer: str) -> None:
    with pytest.raises(VerificationError):
        cosigned_answer(NOTE, answer, WITNESS.key)


def test_an_answer_cannot_move_a_signature_to_another_text() -> None:
    # What the witness truly signed, but of a text that ends later than our checkpoint does.
    longer = NOTE + "— a AAAAAAAA\n"
    answer = "— a AAAAAAAA\n\n" + WITNESS.cosign(longer, AT).line()

    assert times(NOTE + answer, WITNESS.key) == {"witness.example/w1": AT}
    with pytest.raises(VerificationError, match="more than signature lines"):
        cosigned_answer(NOTE, answer, WITNESS.key)
