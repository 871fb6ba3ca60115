"""The debugger that ``simulate --debug`` stops in: left with ``q`` or the end of the input, the simulation is over."""

from __future__ import annotations

import os
import pdb
import sys
from types import FrameType


class _Debugger(pdb.Pdb):
    def set_quit(self) -> None:
        """End the process at once: told by an exception, every task would break off and be judged for it."""
        print("The debugger was left, and the simulation with it.", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


def use() -> None:
    """From now on let every ``breakpoint()`` stop in this debugger."""
    sys.breakpointhook = _stop


def _stop() -> None:
    caller: FrameType = sys._getframe(1)
    _Debugger().set_trace(caller)
