"""The gateway: what becomes of each request, and what the exchange then has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from src.engine.market import SEC
from src.model.actions import Action, Cancel, Replace, Side
from src.model.facts import Answer, AnyFact, Outcome, Verb
from src.runtime.gateway import TIMEOUT, Gateway
from src.runtime.rate import Priority, RateBudget
from src.venues.protocol import Permit
from tests.runtime.builders import BTC, Scene, place, scene, virtual
from tests.virtual_time import virtual_now


class Desk:
    """A scene with a gateway, and the answers it gave."""

    def __init__(self, stage: Scene, group: asyncio.TaskGroup) -> None:
        self.stage = stage
        self.rate = RateBudget(600, virtual_now)
        self.gateway = Gateway(stage.venue, self.rate, stage.clock, group)
        self.answers: list[Answer] = []
        self.refusal: str | None = None

    def hear(self, fact: AnyFact) -> None:
        assert isinstance(fact, Answer)
        self.answers.append(fact)

    async def send(self, action: Action, permit: Permit | None = None) -> list[Outcome]:
        """Submit *action* and return the outcomes in order once the gateway has nothing under way."""
        self.answers.clear()
        self.gateway.submit(action, permit=permit or (lambda: self.refusal), hear=self.hear)
        await self.stage.until(lambda: not self.gateway.under_way)
        return [answer.outcome for answer in self.answers]

    def use_up(self) -> None:
        """Leave no request to anybody."""
        while self.rate.try_take(Priority.CANCEL):
            continue


@asynccontextmanager
async def desk() -> AsyncIterator[Desk]:
    async with scene() as stage, asyncio.TaskGroup() as group:
        yield Desk(stage, group)


@virtual
async def test_an_order_is_sent_before_it_is_accepted_and_then_stands_in_the_book():
    """SENT, then ACCEPTED with the venue's id of the order that the exchange lists."""
    async with desk() as d:
        assert await d.send(place()) == [Outcome.SENT, Outcome.ACCEPTED]
        await asyncio.sleep(0.01)  # it is matched a moment after it has been accepted
        (order,) = d.stage.open()
        sent, accepted = d.answers
        assert (accepted.venue_id, accepted.order_id) == (str(order.venue_id), order.external_id)
        assert (sent.verb, sent.market, sent.time < accepted.time) == (Verb.PLACE, BTC, True)


@virtual
async def test_an_edit_and_a_cancel_bear_their_own_verbs():
    """The edit leaves one order under the new id, the cancel none."""
    async with desk() as d:
        old, new = place(), place("xmmt-BTC-USD-2", price=83_960)
        await d.send(old)
        fields = {field: getattr(new, field) for field in new.__struct_fields__}
        assert await d.send(Replace(**fields, replaces=old.order_id)) == [Outcome.SENT, Outcome.ACCEPTED]
        assert {answer.verb for answer in d.answers} == {Verb.REPLACE}
        await asyncio.sleep(0.1)
        assert [order.external_id for order in d.stage.open()] == [new.order_id]
        assert await d.send(Cancel(BTC, new.order_id)) == [Outcome.SENT, Outcome.ACCEPTED]
        assert {answer.verb for answer in d.answers} == {Verb.CANCEL}
        assert d.stage.open() == []


@virtual
async def test_what_the_permit_refuses_never_reaches_the_exchange():
    """WITHHELD with the permit's own words, no SENT before it, and nothing accepted."""
    async with desk() as d:
        d.refusal = "book stale"
        assert await d.send(place()) == [Outcome.WITHHELD]
        assert d.answers[0].reason == "book stale"
        assert d.stage.exchange.accepted == []


@virtual
async def test_the_permit_is_asked_at_the_write_and_nothing_can_happen_in_between():
    """What became forbidden while the request was prepared is caught: the permit is asked once, and SENT is heard at
    the same instant, before anybody else had a turn.
    """
    async with desk() as d:
        turns: list[str] = []
        asked: list[int] = []

        def permit() -> None:
            asked.append(virtual_now())
            asyncio.get_running_loop().call_soon(turns.append, "another")

        def hear(fact: AnyFact) -> None:
            assert isinstance(fact, Answer)
            turns.append(fact.outcome)
            d.hear(fact)

        began = virtual_now()
        d.gateway.submit(place(), permit=permit, hear=hear)
        await asyncio.sleep(1)
        assert turns[:2] == [Outcome.SENT, "another"]
        assert asked == [d.answers[0].time]
        assert asked[0] > began  # not when it was submitted


@virtual
async def test_a_refusal_carries_the_venues_code_and_changes_nothing():
    """1140 is REFUSED with its code and sentence."""
    async with desk() as d:
        d.stage.venue.refuse_with = ("1140", "not enough balance")
        assert await d.send(place()) == [Outcome.SENT, Outcome.REFUSED]
        assert (d.answers[1].code, d.answers[1].reason) == ("1140", "not enough balance")
        assert d.stage.open() == []


@virtual
async def test_a_lost_answer_is_unanswered_although_the_order_stands():
    """drop_reply: nobody knows, and the exchange has it."""
    async with desk() as d:
        d.stage.venue.drop_reply = True
        assert await d.send(place()) == [Outcome.SENT, Outcome.UNANSWERED]
        await asyncio.sleep(0.1)
        assert len(d.stage.open()) == 1


@virtual
async def test_a_lost_request_is_unanswered_just_the_same():
    """swallow_request: nobody knows, and the exchange has nothing."""
    async with desk() as d:
        d.stage.venue.swallow_request = True
        assert await d.send(place()) == [Outcome.SENT, Outcome.UNANSWERED]
        assert d.answers[1].reason == "the request was lost"
        assert d.stage.exchange.accepted == []


@virtual
async def test_a_venue_that_never_answers_is_unanswered_after_the_gateways_own_timeout():
    """An adapter that hangs is left after 6 s; a timeout is no refusal."""
    async with desk() as d:

        async def hang(_action: Action, permit: Permit, _early: Permit | None = None) -> str:
            assert permit() is None
            await asyncio.sleep(3600)
            return ""

        d.stage.venue.execute = hang  # type: ignore[method-assign]
        began = virtual_now()
        assert await d.send(place()) == [Outcome.SENT, Outcome.UNANSWERED]
        assert d.answers[1].reason == "timeout"
        assert (d.answers[1].time - began) / SEC == TIMEOUT


@virtual
async def test_a_429_means_nothing_was_done_and_the_whole_budget_hears_of_it():
    """WITHHELD with code 429; the next order does not even leave, a cancel does."""
    async with desk() as d:
        await d.send(place())
        d.stage.venue.throttle = 5
        assert await d.send(place("xmmt-BTC-USD-2", Side.SELL, 84_030)) == [Outcome.SENT, Outcome.WITHHELD]
        assert (d.answers[1].code, d.answers[1].reason) == ("429", "rate limit")
        d.stage.venue.throttle = 0
        assert await d.send(place("xmmt-BTC-USD-3", Side.SELL, 84_030)) == [Outcome.WITHHELD]
        assert await d.send(Cancel(BTC, "xmmt-BTC-USD-1")) == [Outcome.SENT, Outcome.ACCEPTED]
        assert d.stage.open() == []
        assert len(d.stage.exchange.accepted) == 1


@virtual
async def test_an_order_without_budget_is_withheld_at_once_and_a_cancel_waits_for_its_turn():
    """With an empty bucket the order is told off in the same instant; the cancel leaves an eighth of a second later."""
    async with desk() as d:
        await d.send(place())
        d.use_up()
        began = virtual_now()
        d.answers.clear()
        d.gateway.submit(place("xmmt-BTC-USD-2", Side.SELL, 84_030), permit=lambda: None, hear=d.hear)
        await asyncio.sleep(0)
        assert [(a.outcome, a.reason, a.time) for a in d.answers] == [
            (Outcome.WITHHELD, "request budget used up", began)
        ]
        assert await d.send(Cancel(BTC, "xmmt-BTC-USD-1")) == [Outcome.SENT, Outcome.ACCEPTED]
        assert (d.answers[0].time - began) / SEC >= 0.125
        assert d.stage.open() == []


@virtual
async def test_it_knows_how_many_requests_have_not_come_back():
    """Two orders under way count as two until each has its answer."""
    async with desk() as d:
        d.gateway.submit(place(), permit=lambda: None, hear=d.hear)
        d.gateway.submit(place("xmmt-BTC-USD-2", Side.SELL, 84_030), permit=lambda: None, hear=d.hear)
        assert d.gateway.under_way == 2
        await asyncio.sleep(0.1)
        assert d.gateway.under_way == 0
        assert [answer.outcome for answer in d.answers].count(Outcome.ACCEPTED) == 2
