"""Two honest text services."""

from __future__ import annotations

import json

from api.handler import Produced, ServiceRequest


def text_echo(request: ServiceRequest) -> Produced:
    """Return the client's own words."""
    return Produced(request.input_text(), format="text", content_type="text/plain")


def word_count(request: ServiceRequest) -> Produced:
    """Return how many lines, words and characters the client's text has, as JSON."""
    text = request.input_text()
    counts = {"lines": len(text.splitlines()), "words": len(text.split()), "characters": len(text)}
    return Produced(json.dumps(counts), format="json", content_type="application/json")


def summary_card(request: ServiceRequest) -> Produced:
    """Return a small Markdown card about the client's text."""
    text = request.input_text()
    first = text.strip().splitlines()[0] if text.strip() else "(empty)"
    body = f"# Summary\n\n- first line: {first[:200]}\n- words: {len(text.split())}\n"
    return Produced(body, format="markdown", content_type="text/markdown")
