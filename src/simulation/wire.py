"""The wire between one run of the bot and the exchange, with everything that can happen to requests and streams.

A run that has been killed is *dead*: nothing of it reaches the wire any more, not even its last words.
"""

from __future__ import annotations

from src.simulation.requests import Requests
from src.simulation.streams import Streams


class Wire(Requests, Streams):
    """The venue as one run of the bot meets it."""
