"""Doors: each folder speaks one venue's language outside and only ``model`` words inside.

May import ``model``. The same file names in each: ``wire.py`` (pure: bytes ⇄ facts), ``signing.py`` where orders are
signed, ``venue.py`` (sockets). Retry policy does not live here: an iterator lives as long as one connection.
"""
