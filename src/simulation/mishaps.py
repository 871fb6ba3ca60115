"""Deeds of the injector that need more than a line: partial fills, fees, time, disk and cancelled waits.

Each returns whether it could be done.
"""

from __future__ import annotations

from decimal import Decimal

from src.runtime.canary import is_canary
from src.sandbox.matching import Order
from src.simulation.plan import MIDNIGHTS, Fault
from src.simulation.world import ACCOUNT, SEC, World

_FAR = 1.5  # times as much as at the beginning, or the inverse
HUGE = 1 << 64  # by which the venue's ids jump: beyond every signed and unsigned word
BPS = Decimal("0.0001")
_PONG_SEC = 10.0  # a machine that slept longer has lost its connections: no pong came
STREAMS = ("book", "prices", "account")


def leave_a_crumb(world: World, fault: Fault) -> bool:
    """Let a taker take our best order of one side but for fewer lots than the smallest order has."""
    orders = [order for order in world.exchange.resting if not is_canary(order.request.external_id)]
    if not orders:
        return False
    chosen = world.chance.choice(orders)
    mine = [order for order in orders if order.request.market == chosen.request.market and order.side is chosen.side]
    best = max(mine, key=lambda order: order.side * order.price)
    rest = round(fault.strength)
    if best.remaining <= rest:
        return False
    _print(world, best, best.ahead + best.remaining - rest)
    return True


def _print(world: World, order: Order, lots: int) -> None:
    market, side, price = order.request.market, order.side.opposite, order.price
    world.act(lambda: world.exchange.print_trade(market, side, price, lots))


def change_fees(world: World, fault: Fault) -> bool:
    """Let the maker fee of every market be *strength* bps; below zero it is a rebate."""
    for name in world.markets:
        world.exchange.set_maker_fee(name, round(Decimal(fault.strength), 2) * BPS)
    return True


def flip_funding(world: World, fault: Fault) -> bool:
    """Turn the sign of the next funding rates, and make them large."""
    for name in world.markets:
        rate = world.exchange.funding_rate(name) or BPS
        world.exchange.set_funding_rate(name, -rate * round(fault.strength))
    return True


def move_the_market(world: World, market: str, fault: Fault) -> bool:
    """Let what everybody thinks *market* is worth jump, up or down by the same share; back from where it is far away,
    or the smallest order would come to be worth more than the largest that the settings allow.
    """
    crowd = world.crowds[market]
    worth = crowd.price.value / float(world.exchange.listing(market).first_price)
    far = not 1 / _FAR < worth < _FAR
    up = worth < 1 if far else world.chance.random() < 0.5
    factor = 1 + fault.strength if up else 1 / (1 + fault.strength)
    world.act(lambda: crowd.jump(world.exchange, factor))
    world.jumped[market] = world.seconds()
    return True


def fire_the_timer(world: World, _fault: Fault) -> bool:
    """Let the dead-man timer cancel everything although it was armed in time."""
    fired: list[bool] = []
    world.act(lambda: fired.append(world.exchange.fire()))
    return fired == [True]


def enlarge_ids(world: World, _fault: Fault) -> bool:
    world.exchange.skip_ids(HUGE)
    return True


def move_money(world: World, fault: Fault) -> bool:
    """Let the operator pay in (> 0) or take out so many dollars."""
    amount = round(Decimal(fault.strength), 2)
    world.moved_usd.append(amount)
    world.act(lambda: world.exchange.deposit(ACCOUNT, amount))
    return True


def set_wall_clock(world: World, fault: Fault) -> bool:
    world.wall_offset += fault.strength
    return True


def suspend(world: World, fault: Fault) -> bool:
    """Let the machine sleep; what sleeps long comes back to dead connections."""
    world.stall(fault.strength)
    if fault.strength > _PONG_SEC:
        for wire in world.wires:
            for stream in STREAMS:
                wire.cut(stream)
    return True


def slip(world: World, fault: Fault) -> bool:
    """Pause the machine in such a way that not even our own clock counts it; only the wall clock is put right."""
    world.slipped += fault.strength
    world.stall(fault.strength)
    return True


def pass_midnight(world: World, _fault: Fault) -> bool:
    """Nothing is done to the day or month that begins now, for the seed's clock was set so; but a year is preceded by a
    leap second, after which the machine's wall clock goes back by one.
    """
    now = world.now() // SEC
    if now == MIDNIGHTS[-1]:
        world.wall_offset -= 1.0
    return now % 86_400 < 60
