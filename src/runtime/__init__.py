"""Waiting: the only room with tasks. It carries facts in, decisions out, and minds the time.

May import ``engine``, ``records``, ``model`` and ``venues.protocol`` (never a concrete venue: the front door picks
one). Every task has a parent ``TaskGroup``; the loop's clock is the only clock, so the whole room runs unchanged in
virtual time.
"""
