"""Virtual time for tests: the loop of the simulation, without a seed."""

from __future__ import annotations

from src.simulation.loop import Deadlock, VirtualLoop, run_virtual, virtual_now

__all__ = ["Deadlock", "VirtualLoop", "run_virtual", "virtual_now"]
