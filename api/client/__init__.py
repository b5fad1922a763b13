"""The Python client of the service: what a buyer, a reader of feeds and a worker need."""
