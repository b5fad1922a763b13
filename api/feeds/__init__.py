"""Feeds and cursors over HTTP: docs/cursors.md."""
