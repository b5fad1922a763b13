"""What it looks like: disposable views of the ledger in one local SQLite file."""
