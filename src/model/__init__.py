"""Words: the frozen values that cross rooms. Imports nothing of ours.

A *price* is an integer number of ticks, a *size* an integer number of lots, a *time* an integer number of nanoseconds
since the epoch, always measured by our own clock unless the name says ``venue_time``. Money that is added up is
``Decimal`` and ends in ``_usd``. Frozen ``msgspec.Struct`` because creating one costs a tenth of a frozen dataclass,
and because one declaration is also the journal's format.
"""
