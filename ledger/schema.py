"""The tables beside the library's event table, and the statements that fill them."""

from __future__ import annotations

from typing import Final

SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS tiles (
        level INTEGER NOT NULL, tile_index INTEGER NOT NULL, hashes BLOB NOT NULL,
        PRIMARY KEY (level, tile_index)) STRICT""",
    """CREATE TABLE IF NOT EXISTS frontier (
        id INTEGER PRIMARY KEY CHECK (id = 1), size INTEGER NOT NULL,
        nodes BLOB NOT NULL) STRICT""",
    """CREATE TABLE IF NOT EXISTS claims (
        chain TEXT NOT NULL, tx_hash TEXT NOT NULL, ordinal INTEGER NOT NULL,
        stream TEXT NOT NULL, position INTEGER NOT NULL,
        PRIMARY KEY (chain, tx_hash, ordinal)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS content (
        content_id TEXT PRIMARY KEY, stream TEXT NOT NULL, field TEXT NOT NULL,
        salt BLOB NOT NULL, value BLOB NOT NULL) STRICT""",
    """CREATE TABLE IF NOT EXISTS answers (
        request_id BLOB PRIMARY KEY, stream TEXT NOT NULL, fingerprint BLOB NOT NULL,
        body BLOB NOT NULL, position INTEGER NOT NULL) STRICT, WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS answers_of ON answers (stream)",
    # A belt, not the proof: the signed tree is the proof.
    """CREATE TRIGGER IF NOT EXISTS stored_events_no_update BEFORE UPDATE ON stored_events
        BEGIN SELECT RAISE(ABORT, 'events are append-only'); END""",
    """CREATE TRIGGER IF NOT EXISTS stored_events_no_delete BEFORE DELETE ON stored_events
        BEGIN SELECT RAISE(ABORT, 'events are append-only'); END""",
)
UPSERT_TILE: Final = "INSERT OR REPLACE INTO tiles (level, tile_index, hashes) VALUES (?,?,?)"
UPSERT_FRONTIER: Final = "INSERT OR REPLACE INTO frontier (id, size, nodes) VALUES (1,?,?)"
INSERT_CLAIM: Final = (
    "INSERT INTO claims (chain, tx_hash, ordinal, stream, position) VALUES (?,?,?,?,?)"
)
ERASE_CONTENT: Final = "DELETE FROM content WHERE content_id=? AND stream=?"
INSERT_ANSWER: Final = (
    "INSERT INTO answers (request_id, stream, fingerprint, body, position) VALUES (?,?,?,?,?)"
)
ANSWERS_WITH: Final = "SELECT request_id, body FROM answers WHERE stream=? AND instr(body, ?) > 0"
WORDS_OF: Final = (
    # A deliverable has no salt, and no answer repeats it.
    "SELECT field, value FROM content WHERE content_id=? AND stream=? AND length(salt) > 0"
)
WIPE_ANSWER: Final = "UPDATE answers SET body=? WHERE request_id=?"
INSERT_CONTENT: Final = (
    "INSERT INTO content (content_id, stream, field, salt, value) VALUES (?,?,?,?,?)"
)
