"""The protocol's known clients, written from its wire contract and from nothing of the product."""
