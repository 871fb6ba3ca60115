"""No copy of this process's memory on a disk: a crash dump would hold the keys."""

from __future__ import annotations

import ctypes
import sys

_PR_SET_DUMPABLE = 4


def forbid() -> None:
    """Let the system write no core dump of this process, and no other process of the same user read its memory.

    The limit alone does not bind a system that pipes dumps into a program, as most desktops do; so on Linux the
    process is also marked as one that must not be dumped. Windows has neither.
    """
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - not there on Windows

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
