"""The command line, and the tools that run beside the service: dev chain, demo, checks."""
