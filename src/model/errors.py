"""Errors by whose fault they are, so that the catcher knows what to do."""

from __future__ import annotations


class Rejected(Exception):
    """The venue said no. *code* is the venue's own (``"1142"``, ``"429"``); *reason* is its sentence."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{reason} (code {code})")
        self.code = code
        self.reason = reason


class Unanswered(Exception):
    """No usable answer: timeout, broken connection, 5xx, unreadable body. The request may have worked."""


class Throttled(Exception):
    """The venue's rate limit (HTTP 429): nothing was done; wait *after* seconds."""

    def __init__(self, after: float) -> None:
        super().__init__(f"rate limit hit; wait {after:g} s")
        self.after = after


class Withheld(Exception):
    """We ourselves stopped a request just before it was written; *reason* says which gate."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Disconnected(Exception):
    """A stream is over (closed, silent, gapped). The caller reconnects; the first fact after is a snapshot."""


class Malformed(Exception):
    """A message of the venue that cannot be read. The stream that carried it is not to be trusted further."""


class Unreadable(Malformed, Unanswered):
    """A row about us that cannot be read, in a message or an answer that can; *kind* says of what: fills, orders,
    positions.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class Halt(Exception):
    """We chose to stop; the text is the sentence shown to the operator."""


class EndedEarly(Halt):
    """Told to end before the start was over: nothing was placed, and nothing went wrong."""


class ConfigError(Exception):
    """Something a person wrote is wrong: *path* says where, the message what was found and what is allowed."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path
        self.message = message
