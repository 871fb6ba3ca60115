"""Extended (extended.exchange): perpetuals on Starknet, through its REST API and its v1 streams.

``values`` turns the venue's texts into bounded exact values; ``markets`` and ``wire`` turn messages into model words
(pure); ``signing`` alone knows keys and the x10 SDK; ``rest`` is the HTTP side and the meaning of its answers;
``streams`` is one connection as an iterator; ``venue`` puts them together as a ``Venue``.

The SDK's own clients are not used: its streams fail with today's ``websockets``, lose subscriptions on reconnect and
die of one unknown enum value; its HTTP client waits 500 seconds. We take its hashing and signing only.
"""
