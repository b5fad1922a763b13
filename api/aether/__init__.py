"""The marketplace: its own HTTP contract over the same ledger."""
