"""The desk: all markets of one account. Money, limits across markets, and the state of trading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from src.engine.market import SEC, Market
from src.engine.pnl import PnlParts
from src.engine.risk import LossGuard, LossState, RiskLimits, TradingState, Trip, budget, most_severe
from src.model.actions import Budget
from src.model.facts import AnyFact, Balance, Command, Fill, Position, Stream, StreamDown, StreamUp, Transfer

# A difference between our books and the venue's must last this long before it counts: events of one execution arrive
# one by one.
SETTLE = 5 * SEC
MINUTE = 60 * SEC
# Complete readings of the venue's fills after which a difference of positions is no longer a matter of time.
READINGS = 2
# Readings after which a difference of money is taken for a transfer that nobody told us of; where as much is missing as
# a day may lose, it may as well be a loss.
EXPLAINED_WITHIN = 10
# Rounding at the venue may cost this share of the volume traded (quant: alarm above 1e-6 of volume), and at least a
# cent.
REMAINDER_SHARE = Decimal("0.000001")
REMAINDER_FLOOR = Decimal("0.01")

_COMMANDED = {"halt": TradingState.HALTED, "reduce": TradingState.REDUCING}


class Desk:
    """Equity, exposure and budgets of one account. States only ever get worse here; a person clears them by a restart.

    Our books start from the venue's cash and positions (``open``). Afterwards cash moves only by fills, fees, funding
    and transfers we know; what the venue's own books say beyond that is the *remainder*, shown always and alarmed.
    The venue's cash is ``balance - sum(size * open price)`` (Extended: equity = balance + unrealised PnL).

    Equity and every limit judge what this run trades. A position in another market, a hedge perhaps, stands outside:
    what it gains or loses while it is open moves nothing here, so it halts nobody; what it realises, or pays, shows as
    remainder, and reduces when as much of it is missing as a day may lose. The runtime warns of it for as long as it is
    there.
    """

    def __init__(
        self,
        markets: Mapping[str, Market],
        limits: RiskLimits,
        loss: LossState | None = None,
        *,
        whole_from: int = 0,
    ) -> None:
        """Until *whole_from* (ns) the limits of the first hour are in force, from then on the whole ones."""
        self.markets = markets
        self.limits = limits
        self._first_hour = limits.for_first_hour()
        self._whole_from = whole_from
        self.guard = LossGuard(limits, loss)
        self.state = TradingState.RUNNING
        self.reason = ""
        self.balance: Balance | None = None
        self.opening_cash_usd: Decimal | None = None
        self.transfers_usd = Decimal(0)
        self.account_up = False
        self.warnings: dict[str, str] = {}
        self._transfer_ids: set[str] = set()
        self._unequal_since: int | None = None
        self._readings = 0  # complete ones of the venue's fills since positions began to differ
        self._difference: dict[str, int] = {}  # of positions, when fills were read last
        self._unread = ""  # positions differ, and the venue could not yet be asked why
        self._since = 0  # the first look at money
        self._unpriced: list[str] = []  # markets in which a position is held that has no price yet
        self._paid_in_usd = Decimal(0)  # what of the remainder is taken for a deposit
        self._remainder_since: int | None = None
        self._remainder = Decimal(0)  # the latest, and how often the past was read without explaining it
        self._unexplained = 0
        self._missed: int | None = None  # readings since as much is missing as a day may lose; None: it is not

    # --- facts -------------------------------------------------------------------------------------------------------

    def open(self, balance: Balance, positions: Sequence[Position], missed: Sequence[Fill] = ()) -> None:
        """Open the books: the venue's cash and positions are where our own counting begins.

        *missed* executions happened while we were away. They are inside the venue's figures already, so the books open
        as of before them; the caller then lets the markets hear them like any other fill, and none is lost or counted
        twice.
        """
        held = {position.market: position for position in positions}
        for name, market in self.markets.items():
            position = held.get(name)
            size = position.size if position else 0
            market.ledger.start(size - sum(fill.side * fill.size for fill in missed if fill.market == name))
            market.venue_position = size
            market.venue_open_price_usd = position.open_price_usd if position else Decimal(0)
        self.balance = balance
        self._unpriced = [name for name, market in self.markets.items() if market.position]
        cash = self.venue_cash_usd()
        assert cash is not None
        self.opening_cash_usd = cash + sum((fill.side * fill.value_usd + fill.fee_usd for fill in missed), Decimal(0))

    def apply(self, fact: AnyFact) -> None:
        """Take in one fact that concerns the account."""
        if isinstance(fact, Balance):
            self.balance = fact
        elif isinstance(fact, Transfer) and fact.transfer_id not in self._transfer_ids:
            self._transfer_ids.add(fact.transfer_id)
            self.transfers_usd += fact.amount_usd
            self.guard.transfer(fact.amount_usd)
        elif isinstance(fact, Command):
            self.trip(Trip(_COMMANDED[fact.verb], fact.reason, fact.time))
        elif isinstance(fact, StreamUp) and fact.stream is Stream.ACCOUNT:
            self.account_up = True
        elif isinstance(fact, StreamDown) and fact.stream is Stream.ACCOUNT:
            self.account_up = False

    def trip(self, trip: Trip) -> None:
        """Go to a worse state; never back."""
        if most_severe(trip.state, self.state) is not self.state:
            self.state, self.reason = trip.state, trip.reason

    # --- money -------------------------------------------------------------------------------------------------------

    def venue_cash_usd(self) -> Decimal | None:
        """Return the cash behind the venue's last balance and positions."""
        if self.balance is None:
            return None
        carried = (m.instrument.size(m.venue_position or 0) * m.venue_open_price_usd for m in self.markets.values())
        return self.balance.balance_usd - sum(carried, Decimal(0))

    def parts(self) -> PnlParts:
        """Return the PnL of all markets since the start, by part."""
        total = PnlParts()
        for market in self.markets.values():
            total = total + market.ledger.parts
        return total

    def opening_equity_usd(self) -> Decimal | None:
        """Return cash plus positions at their first mid; None while a held position has no mid yet."""
        if self.opening_cash_usd is None or any(
            not m.ledger.marked and (m.position or m.volume_usd) for m in self.markets.values()
        ):
            return None
        return sum((m.ledger.opening_value_usd for m in self.markets.values()), self.opening_cash_usd)

    def equity_usd(self) -> Decimal | None:
        """Return our own count of equity: opening equity, PnL and transfers."""
        opening = self.opening_equity_usd()
        return None if opening is None else opening + self.parts().total + self.transfers_usd

    def venue_equity_usd(self) -> Decimal | None:
        """Return the venue's cash and the venue's positions at our last mids: equity without any count of ours."""
        cash = self.venue_cash_usd()
        if cash is None:
            return None
        return sum((m.ledger.value_at_mid(m.venue_position or 0) for m in self.markets.values()), cash)

    def mismatches(self) -> list[str]:
        """Return the markets whose position differs between the venue and our count of fills."""
        return [
            name for name, m in self.markets.items() if m.venue_position is not None and m.venue_position != m.position
        ]

    def remainder_usd(self) -> Decimal | None:
        """Return the venue's cash minus ours; None while positions differ (an execution is still being told)."""
        cash = self.venue_cash_usd()
        if cash is None or self.opening_cash_usd is None or self.mismatches():
            return None
        ours = sum((m.ledger.cash_usd for m in self.markets.values()), self.opening_cash_usd) + self.transfers_usd
        return cash - ours

    # --- limits ------------------------------------------------------------------------------------------------------

    def budget(self, name: str, now: int, closed: str = "") -> Budget:
        """Return what *name* may have in the book at *now*. *closed* carries a reason of the runtime (not armed,
        stopping).
        """
        market = self.markets[name]
        others = sum(other.worst_usd() for key, other in self.markets.items() if key != name)
        return budget(
            self.limits if now >= self._whole_from else self._first_hour,
            instrument=market.instrument,
            position=market.position,
            mark=market.price,
            others_usd=others,
            open_orders=sum(len(m.blotter.working) for m in self.markets.values()),
            reduce_only=self.state is TradingState.REDUCING or market.instrument.reduce_only or bool(self._unpriced),
            closed=closed or self._closed(),
        )

    def _closed(self) -> str:
        if self.state is TradingState.HALTED:
            return f"halted: {self.reason}"
        if not self.account_up:
            return "account stream down"
        return self._unread

    def watch(self, now: int) -> Trip | None:
        """Look at money and alarms (about once a second); return the trip if the state of trading just got worse."""
        before = self.state
        self._since = self._since or now
        self._watch_equity(now)
        self._watch_money(now)
        for market in self.markets.values():
            if market.alarm:
                self.trip(Trip(TradingState.HALTED, market.alarm, now))
        self._watch_funding()
        self._watch_positions(now)
        self._watch_remainder(now)
        self._watch_missing(now)
        self._watch_first_hour(now)
        return Trip(self.state, self.reason, now) if self.state is not before else None

    def _watch_equity(self, now: int) -> None:
        """Hold our own count of equity against the loss limits; while it cannot be told, positions may only shrink."""
        worth, self._unpriced = self._worth_usd({name: market.position for name, market in self.markets.items()}, now)
        if self._unpriced:
            names = ", ".join(self._unpriced)
            self.warnings["equity"] = f"no price for the position in {names}: losses cannot be seen, only reducing"
            return
        self.warnings.pop("equity", None)
        if self.opening_cash_usd is None:
            return
        cash = sum((market.ledger.cash_usd for market in self.markets.values()), self.opening_cash_usd)
        equity = cash + worth + self.transfers_usd + self._paid_in_usd
        # What a fill far from the last mid of before makes of equity, valued at that mid, was never so; nor is what a
        # position is worth that has been traded away unheard.
        priced = all(market.mids.last is not None for market in self.markets.values() if market.position)
        firm = priced and self.account_up and not self.mismatches()
        if (trip := self.guard.update(now, equity, firm=firm)) is not None:
            self.trip(trip)

    def _watch_money(self, now: int) -> None:
        """Look at what the venue itself still holds for us: a withdrawal is no loss, but it takes the margin away."""
        cash, least = self.venue_cash_usd(), self.limits.min_balance_usd
        worth, unpriced = self._worth_usd({name: m.venue_position or 0 for name, m in self.markets.items()}, now)
        if cash is None or unpriced or self.mismatches():
            return
        if (held := cash + worth) < Decimal(str(least)):
            reason = f"the venue holds {held:.2f} USD for us, min_balance_usd is {least:.2f}"
            self.trip(Trip(TradingState.REDUCING, reason, now))

    def _watch_funding(self) -> None:
        for name, market in self.markets.items():
            if market.funding_doubt:
                self.warnings[f"funding {name}"] = market.funding_doubt
            else:
                self.warnings.pop(f"funding {name}", None)

    def _worth_usd(self, held: Mapping[str, int], now: int) -> tuple[Decimal, list[str]]:
        """Return what the lots *held* are worth to the limits, and in which markets they have no price."""
        prices = {name: self.markets[name].worth2(now, self._since) for name, lots in held.items() if lots}
        worth = (
            self.markets[name].ledger.value_at(held[name], mid2) for name, mid2 in prices.items() if mid2 is not None
        )
        return sum(worth, Decimal(0)), [name for name, mid2 in prices.items() if mid2 is None]

    def _watch_positions(self, now: int) -> None:
        unequal = self.mismatches()
        self._unread = ""
        if not unequal:
            self._unequal_since = None
            return
        if self._unequal_since is None:
            self._unequal_since, self._readings = now, 0
        if now - self._unequal_since <= 3 * SETTLE:
            return
        # The account loop re-reads fills meanwhile. What differs after several readings we do not understand; while the
        # venue cannot be asked, nothing is placed, but an outage is no reason for a halt that only a person ends.
        if self._readings < READINGS:
            self._unread = f"position differs from the venue and its fills cannot be read ({', '.join(unequal)})"
        else:
            told = ", ".join(
                f"{name}: venue {self.markets[name].venue_position} lots, ours {self.markets[name].position}"
                for name in unequal
            )
            self.trip(Trip(TradingState.HALTED, f"position differs from the venue ({told})", now))

    def fills_read(self) -> None:
        """Note that the venue's fills of all markets have just been read and heard."""
        difference = {name: (m.venue_position or 0) - m.position for name, m in self.markets.items()}
        # A reading that explained a part, or during which more happened, proves nothing about the rest.
        self._readings = self._readings + 1 if difference == self._difference else 1
        self._difference = difference
        self._unexplained += 1
        if self._missed is not None:
            self._missed += 1

    def _watch_remainder(self, now: int) -> None:
        remainder, rounding = self.remainder_usd(), self._rounding_usd()
        if remainder is None or abs(remainder) <= rounding:
            self._remainder_since = None
            self.warnings.pop("remainder", None)
            if remainder is not None and self._paid_in_usd:
                self._take_for_deposit(Decimal(0))
            return
        if abs(remainder - self._remainder) > rounding:
            self._remainder, self._unexplained = remainder, 0
        elif self._unexplained >= EXPLAINED_WITHIN and abs(max(Decimal(0), remainder) - self._paid_in_usd) > rounding:
            self._take_for_deposit(max(Decimal(0), remainder))
        if self._remainder_since is None:
            self._remainder_since = now
        if now - self._remainder_since > SETTLE:
            self.warnings["remainder"] = f"{remainder:+.6f} USD of the venue's balance is not explained by our books"

    def _watch_missing(self, now: int) -> None:
        """Only reduce once as much is missing as a day may lose, and reading the past again does not explain it.

        The limits cannot see it, for they go by our own count, so that a withdrawal is no loss.
        """
        remainder, most = self.remainder_usd(), Decimal(str(self.limits.max_daily_loss_usd))
        if remainder is None:
            return
        if remainder > -most:
            self._missed = None
            return
        # What goes on growing is never the same for ten readings; so they are counted apart.
        self._missed = self._missed or 0
        if max(self._missed, self._unexplained) >= EXPLAINED_WITHIN:
            reason = (
                f"missing from the venue's balance: {-remainder:.2f} USD, and nothing explains it (max_daily_loss_usd "
                f"is {most:.2f}); a withdrawal looks the same; a restart takes the new balance as its start, but the "
                "losses of the day and since the peak are then counted with what is missing"
            )
            self.trip(Trip(TradingState.REDUCING, reason, now))

    def _take_for_deposit(self, usd: Decimal) -> None:
        """Take *usd* of what nothing explains for paid in, so that the limits compare with it, too: the next start
        finds it in the account, and as much could be lost unseen. Nothing is a withdrawal likewise: it may be a loss.
        """
        self.guard.transfer(usd - self._paid_in_usd)
        self._paid_in_usd = usd

    def _watch_first_hour(self, now: int) -> None:
        left = self._whole_from - now
        if left > 0 and self.limits.first_hour_share < 1:
            share = self.limits.first_hour_share
            self.warnings["first hour"] = (
                f"first hour after a change of program or configuration: {share:.0%} of the position and order "
                f"limits, all of them in {-(-left // MINUTE)} min"
            )
        else:
            self.warnings.pop("first hour", None)

    def agrees(self) -> bool:
        """Return whether what the venue has told last is what our books say; money that stays unexplained however often
        the past is read counts as explained.
        """
        remainder = self.remainder_usd()
        if remainder is None:
            return False
        explained = self._remainder if self._unexplained >= EXPLAINED_WITHIN else Decimal(0)
        return min(abs(remainder), abs(remainder - explained)) <= self._rounding_usd()

    def _rounding_usd(self) -> Decimal:
        """Return by how much the venue's own rounding may move its balance from our count."""
        volume = sum((m.volume_usd for m in self.markets.values()), Decimal(0))
        return max(REMAINDER_FLOOR, REMAINDER_SHARE * volume)

    def doubtful(self, now: int) -> bool:
        """Return whether fills and funding should be read again: positions or money have disagreed for a moment.

        Money that the past does not explain however often it is read was moved by the operator: it stays a warning.
        """
        money = self._remainder_since if self._unexplained < EXPLAINED_WITHIN else None
        since = [moment for moment in (self._unequal_since, money) if moment is not None]
        return any(now - moment > SEC for moment in since)
