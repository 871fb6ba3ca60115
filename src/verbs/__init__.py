"""VERBS: what ``python -m src.bot`` can be asked to do, a file each. May import everything but the front door.

Each verb composes what it needs anew and returns an exit code; none knows another. What several need stands in
``account.py`` (whose account it is), ``loop.py`` (what it waits on) and ``outcome.py`` (how it ends).
"""
