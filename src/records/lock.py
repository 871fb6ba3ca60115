"""One process per sub-account: the venue's dead-man timer and order limits are shared by all who use the account."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from filelock import FileLock, Timeout

from src.model.errors import Halt


def lock_account(account: str, folder: Path | None = None) -> FileLock:
    """Take the machine-wide lock of *account* (its venue's address and API key) and return it.

    Raises ``Halt`` when another process holds it, or when its file cannot be opened. The operating system frees the
    lock when the process ends, however it ends. Only a hash appears in the name.
    """
    digest = hashlib.sha256(account.encode()).hexdigest()[:16]
    path = (folder or Path(tempfile.gettempdir())) / f"extended-mm-bot-{digest}.lock"
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout as held:
        raise Halt(
            f"another bot already trades this account (lock {path}); one process per sub-account, because the venue's "
            "dead-man timer is shared by the whole account"
        ) from held
    except OSError as error:  # most likely the file of another user, which may be held at this very moment
        raise Halt(
            f"the lock file {path} cannot be opened ({error.strerror}); without it nothing keeps a second bot off this "
            "account: if it belongs to another user, make sure that no bot of theirs trades the account, then delete it"
        ) from error
    return lock
