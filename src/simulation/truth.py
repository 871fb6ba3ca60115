"""The judge: what must hold at every step, checked against what the exchange knows and the bot cannot.

=====  ==================================================================================================
I1     at send: ages of book, mark and account as the wire delivered them, the account on the line that lives now; a
       book that did not fit is not trusted
I2     at each acceptance: position and all open orders of a side within the limits, at the lowest mark of late
I3     no order of ours rests while the venue's timer is off; unless it landed later than the bot's margin allows
I4     after the faults: positions, open orders and cash equal, to the last digit (``run`` asks when)
I5     no order id leaves twice; at the end every trade of the account is in a journal of ours
I6     nothing but cancels leaves once the end was asked for; after an orderly end nothing is open
I7     the summary's parts add up exactly; after the faults nothing remains unexplained
I8     no order of ours could meet another one of ours
I9     requests within any minute stay within the allowance
I10    prices within the collar of a mark of late
I11    value and number of orders within their limits
I12    the bot's count of a fill never falls nor exceeds the order; what ended stays ended
I13    what rests at the exchange is an open order to the bot
I14    replaying the journal gives the same decisions and the same position
I15    no part of the bot ends by an error that nobody planted; after one that was planted no order leaves
I16    halted: nothing is placed; reducing: only reduce-only
I17    the bot's lists stay within bounds
L1 L3  after the faults: two-sided quotes again, and no order in doubt (``run`` asks when)
=====  ==================================================================================================

``pace`` judges I18, I19 and the days of I7, ``halts`` of I16 why trading halts and when it must, ``closer`` finer
points of I3, I6, I7, I9, I10, I12, I13, I17, and of L2 that the timer never fires in calm times, ``quoted`` which side
must be quoted (L1, L2), ``gone`` what must not stand any more (I6, I10, I13, I14), ``told`` what follows from the
venue's answers (I16), ``offer`` how wide and how large the quotes are, and that orders follow them (I10, I11),
``manners`` how often the bot may ask for what it does not get (I9).
Not judged: I20, I21.
"""

from __future__ import annotations

from src.simulation.court import Violation
from src.simulation.manners import Manners

__all__ = ("JUDGED", "Truth", "Violation")

JUDGED = (*(f"I{number}" for number in range(1, 20)), "L1", "L2", "L3")


class Truth(Manners):
    """Judges one seed; ``enter`` names the run that lives now."""
