"""The report: the case as one page for people, without scripts or anything from elsewhere."""

from __future__ import annotations

import html
import re

from ledger.evidence_verify.basics import Doc
from ledger.evidence_verify.bundle import DELIVERABLE_FILE, Evidence
from ledger.evidence_verify.style import STYLE

SHOWN_CHARACTERS = 6000
# A list of our own: what Python knows of Unicode differs from version to version.
STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
GRADE_WORDS = {
    "proven": "proven",
    "attested-by-counterparty": "counterparty's word",
    "attested-by-provider": "provider's word",
    "rpc-testimony": "read from the chain",
}
ENDINGS = {
    "dispute_withdrawn": "The client withdrew it.",
    "dispute_ruled": "The arbiter ruled on it.",
    "confirmed": "It ended with the client's receipt.",
    "refunded": "It ended with the refund.",
}


def report_of(evidence: Evidence, case: Doc) -> bytes:
    """Return the page; what comes from outside is escaped and cannot hide or reorder anything."""
    parts = [
        _opening_words(case),
        _section("How sure is a sentence?", _grades(case)),
        _section("Parties", _parties_table(case)),
        _section("What was offered", _terms_list(evidence, case)),
        _section("What happened", _timeline(case)),
        _section("Money", _money_tables(case)),
        _section("What was delivered", _deliverable(case)),
        _section("The dispute", _dispute_words(evidence, case)),
        _section("Content that may be erased", _content_table(case)),
        _section("What the whole shows", _facts_table(case)),
        _section("What is not proven", _list(case["not_proven"])),
        _section("Checking this page", _checking(evidence)),
    ]
    head = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\';'
        " style-src 'unsafe-inline'\">"
        '<meta name="referrer" content="no-referrer">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Evidence on order {shown(case['order_id'])}</title><style>{STYLE}</style></head>"
    )
    return f"{head}<body>\n{''.join(parts)}</body></html>\n".encode()


def shown(value: object) -> str:
    """Return text as HTML; characters that steer the display are written out instead of obeyed."""
    plain = html.escape(str(value), quote=True)
    return STEERING.sub(lambda found: f"[U+{ord(found[0]):04X}]", plain)


def _section(title: str, body: str) -> str:
    return f"<section><h2>{shown(title)}</h2>\n{body}</section>\n"


def _code(value: object) -> str:
    return f"<code>{shown(value)}</code>"


def _grade(grade: str) -> str:
    return f'<span class="g {grade}">{GRADE_WORDS[grade]}</span>'


def _table(titles: list[str], rows: list[list[str]], kind: str = "") -> str:
    """Return a table; a title may carry a class, and a cell that begins with `<td` its own tag."""
    head = ""
    for title, _, style in (title.partition(":") for title in titles):
        head += f'<th class="{style}">{shown(title)}</th>'
    cells = ["".join(c if c.startswith("<td") else f"<td>{c}</td>" for c in row) for row in rows]
    body = "".join(f"<tr>{row}</tr>\n" for row in cells)
    opened = f'<table class="{kind}"><thead><tr>{head}</tr></thead>'
    return f"{opened}<tbody>{body}</tbody></table>\n"


def _list(lines: list[str]) -> str:
    return "<ul>" + "".join(f"<li>{shown(line)}</li>\n" for line in lines) + "</ul>\n"


def _pairs(pairs: list[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{shown(n)}</dt><dd>{v}</dd>" for n, v in pairs) + "</dl>\n"


def _opening_words(case: Doc) -> str:
    log = case["log"]
    warning = (
        '<p class="warn"><strong>This order was made on a development chain: the money is play'
        " money.</strong></p>\n"
    )
    pairs = [
        ("Order", _code(case["order_id"])),
        ("Status", shown(case["status"])),
        ("Events", str(len(case["timeline"]))),
        ("Log", _code(log["origin"])),
        ("Head of the log", f"{log['tree_size']} events, root {_code(log['tree_root'])}"),
    ]
    return (
        "<header><h1>Evidence on an order</h1>\n"
        '<p class="lead">Made by the provider from its signed log. This page repeats what the files'
        " of the bundle say; <code>verify.py</code> makes it again from them and compares.</p>\n"
        f"{warning if log['play_money'] else ''}{_pairs(pairs)}</header>\n"
    )


def _grades(case: Doc) -> str:
    rows = [[_grade(each["grade"]), shown(each["meaning"])] for each in case["grades"]]
    return _table(["grade", "a sentence with this grade"], rows)


def _parties_table(case: Doc) -> str:
    rows = [
        [shown(p["role"]), _code(p["account"]), shown(p["known_by"]), _grade(p["grade"])]
        for p in case["parties"]
    ]
    return _table(["party", "wallet", "known because", "grade"], rows)


def _terms_list(evidence: Evidence, case: Doc) -> str:
    skipped, codes = ("grade", "files"), ("payment_address", "token", "refund_policy_sha256")
    pairs = [
        (name.replace("_", " "), _code(text) if name in codes else shown(text))
        for name, text in case["terms"].items()
        if name not in skipped
    ]
    said = "<p>The provider signed these terms as event 1. " + _grade("proven") + "</p>\n"
    return said + _pairs(pairs) + _texts(evidence, "description", "The order's words")


def _texts(evidence: Evidence, field: str, title: str) -> str:
    """Return the opened texts of a field, cut where they are long."""
    found = ""
    for opening in evidence.openings:
        if opening.field != field or opening.value is None:
            continue
        text = opening.value.decode("utf-8", "replace")
        rest = len(text) - SHOWN_CHARACTERS
        more = (
            f"<p>{rest} characters more stand in {_code(opening.file)}.</p>\n" if rest > 0 else ""
        )
        found += f"<p>{shown(title)} (event {opening.seq}):</p>\n"
        found += f"<pre><bdi>{shown(text[:SHOWN_CHARACTERS])}</bdi></pre>\n{more}"
    return found


def _timeline(case: Doc) -> str:
    rows = []
    for row in case["timeline"]:
        says = "".join(f"<span>{shown(s['text'])}</span>{_grade(s['grade'])}" for s in row["says"])
        who = "; ".join(dict.fromkeys(s["vouched_by"] for s in row["says"]))
        time = row["at"][:19].replace("T", " ")
        rows.append([str(row["event"]), shown(time), f'<div class="says">{says}</div>', shown(who)])
    note = "<p>Times are UTC, by the provider's clock. " + _grade("attested-by-provider") + "</p>\n"
    titles = ["event:no", "time:when", "what it says", "who vouches:who"]
    return note + _table(titles, rows, "wide")


def _money_tables(case: Doc) -> str:
    money = case["money"]
    sums = [
        [shown(s["what"].replace("_", " ")), f'<td class="n r">{shown(s["usdc"])}</td>']
        for s in money["sums"]
    ]
    rows = [
        [
            f'<td class="n r">{shown(t["usdc"])}</td>',
            shown(t["stands"]),
            f"{_code(t['sender'])}<br>to {_code(t['recipient'])}",
            f"{_code(t['tx_hash'])}<br>{_place(t)}",
        ]
        for t in money["transfers"]
    ]
    if "payment" in money:
        return _payment_words(money) + _table(["sum", "amount"], sums, "narrow")
    note = "<p>As the provider read it from the chain. " + _grade(money["grade"]) + "</p>\n"
    titles = ["amount:sum", "stands:stands", "from, to", "transaction"]
    table = _table(titles, rows, "wide") if rows else "<p>No transfer was recorded.</p>\n"
    return note + _table(["sum", "amount"], sums, "narrow") + table


def _payment_words(money: Doc) -> str:
    payment = money["payment"]
    names = ("chain", "signature", "payer", "destination")
    pairs = [(name, _code(payment[name])) for name in names if name in payment]
    return f"<p>{shown(payment['text'])} {_grade(money['grade'])}</p>\n{_pairs(pairs)}"


def _place(transfer: Doc) -> str:
    chain, block = shown(transfer["chain"]), transfer["block_number"]
    return f"log {transfer['ordinal']} of it, block {block} of {chain}"


def _deliverable(case: Doc) -> str:
    item = case["deliverable"]
    if not item["exists"]:
        return "<p>No deliverable was recorded.</p>\n"
    recorded = item["recorded"]
    states = {
        "open": "in this bundle, with the hash that was signed",
        "not_held": "not held any more",
    }
    pairs = [
        ("SHA-256", _code(recorded["raw"])),
        ("size", f"{recorded['size_bytes']} bytes"),
        ("type", f"{shown(recorded['format'])}, {shown(recorded['content_type'])}"),
        ("the bytes are", shown(states.get(item["state"], item["state"]))),
    ]
    pairs += [("file", _code(DELIVERABLE_FILE))] if item["state"] == "open" else []
    rows = [
        [str(a["event"]), shown(a["kind"]), shown(a["at"]), shown(a.get("response_status", ""))]
        for a in item["handing_over"]
    ]
    note = f"<p>The provider signed this as event {item['event']}. {_grade('proven')}</p>\n"
    words = "<p>No handing over was recorded.</p>\n"
    if rows:
        words = f"<p>How it was handed over: {_grade('attested-by-provider')}</p>\n"
        words += _table(["event", "what", "time", "answer"], rows)
    return note + _pairs(pairs) + words


def _dispute_words(evidence: Evidence, case: Doc) -> str:
    dispute = case["dispute"]
    if not dispute["disputed"]:
        return "<p>Nothing was disputed.</p>\n"
    words = ENDINGS.get(dispute["ended_by"], "It is open.")
    said = f"<p>{shown(words)}</p>\n"
    if "ruling" in dispute:
        said += _ruling_words(dispute["ruling"])
    rows = [
        [f"event {s['event']}", shown(s["by"]), _code(s["file"]), _grade(s["grade"])]
        for s in dispute["statements"]
    ]
    table = _table(["statement", "of the", "file", "grade"], rows) if rows else ""
    return said + table + _texts(evidence, "statement", "Statement")


def _ruling_words(ruling: Doc) -> str:
    """Say what was ruled; it moves no money, so what went back stands under the money."""
    for_whom = {"split": "to split"}.get(ruling["outcome"], f"for the {ruling['outcome']}")
    amount = "nothing" if ruling["amount_micro_usdc"] == "0" else ruling["usdc"]
    text = f"It ruled {for_whom}: {amount} should go back to the client (event {ruling['event']})."
    return f"<p>{shown(text)} {_grade(ruling['grade'])}</p>\n"


def _content_table(case: Doc) -> str:
    rows = [
        [
            str(c["event"]),
            shown(c["field"].replace("_", " ")),
            shown(c["state"].replace("_", " ")),
            _code(c.get("file", c.get("commitment", ""))),
        ]
        for c in case["content"]
    ]
    return _table(["event", "what", "state", "file, or the commitment that remains"], rows)


def _facts_table(case: Doc) -> str:
    rows = [
        [shown(f["text"]), _grade(f["grade"]), "<br>".join(map(_code, f["files"]))]
        for f in case["facts"]
    ]
    return _table(["sentence", "grade:grade", "files:files"], rows, "wide")


def _checking(evidence: Evidence) -> str:
    command = (
        f"python3 -I verify.py {evidence.base}.zip --origin {evidence.origin}"
        " --log-key KEY --wallet 0x..."
    )
    return (
        "<p>Take <code>verify.py</code> and the keys from a source that you trust, not from this"
        " bundle; it needs Python 3.9 or newer, and no network.</p>\n"
        f"<pre>{shown(command)}</pre>\n"
    )
