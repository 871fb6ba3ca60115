"""Decisions: what one market, and the desk of all markets, should do next.

Imports ``model`` and nothing else of ours. Pure, so that a journal of facts replays to the bit: no ``async``, no clock,
no randomness, no logging, no files and no sockets. The time and the budget are arguments, everything else was heard as
a fact; what the runtime did with a decision comes back as a fact too.

Choices made here, and why:

* The way from estimates to prices is a few lines of scalar arithmetic (``kernel``), so that each sign and unit can be
  tested by name. ``quoting`` turns it into whole ticks and lots and keeps the chain of reasons; the chain adds up to
  the price exactly.
* Funding moves both quotes by the payment a position will meet before it is unwound. The widely printed alternative,
  adding a third of the rate to the spread, earned less than ignoring funding in an exact model; it remains as
  ``symmetric``, on |rate|.
* Volatility is measured at the time we hold inventory, not from tick to tick: on a venue that follows another one the
  two differ by a factor of two. The two-scale estimator also removes the bounce between bid and ask.
* The touch is taken without our own orders. A maker who is the touch would otherwise follow his own quotes.
* A book that failed a check is forgotten at once: no price can be read from it by mistake, only a snapshot restores it.
* Rounding, floors and clamps only ever move a quote away from the market.
"""
