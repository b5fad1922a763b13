"""Loops over what the work view says is still to do."""
