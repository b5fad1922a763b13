"""Handlers that ship with the product: small services to sell and to test with."""
