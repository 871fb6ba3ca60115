"""A local exchange for the demo and for tests: real matching, margin, funding and a dead-man timer, no real money.

May import ``model`` only: the sandbox plays the *other* side of the wire, so nothing of the bot may leak into it; the
bot meets it over its wire protocols or, in memory, behind the venue protocol. Everything is deterministic: time is an
argument, randomness comes from a seed. The core (``exchange``, ``matching``, ``clearing``, ``admission``, ``state``) is
sans-IO, so one and the same core serves the wire servers, the in-memory venue and the simulated day.
"""
