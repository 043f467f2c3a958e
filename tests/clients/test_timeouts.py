from __future__ import annotations

from simulator.clients.timeouts import Timeouts
from simulator.clock import Clock


class Item:
    def __init__(self, name):
        self.name = name
        self.over = False


def test_each_item_expires_after_its_time_unless_it_is_over():
    clock, expired = Clock(), []
    timeouts = Timeouts(clock, 10, lambda i: i.over, lambda i: expired.append((i.name, clock.now)))
    items = [Item(n) for n in range(5)]
    for t, item in zip((0, 2, 2, 5, 30), items, strict=True):
        clock.call_at(t, lambda _, item=item: timeouts.add(item))
    clock.call_at(7, lambda _: setattr(items[0], "over", True))
    clock.call_at(11, lambda _: setattr(items[2], "over", True))
    clock.run()
    assert expired == [(1, 12), (3, 15), (4, 40)]


def test_a_steady_stream_that_ends_in_time_costs_few_events():
    clock, fired = Clock(), []
    timeouts = Timeouts(clock, 1000, lambda i: i.over, fired.append)

    def add(_):
        item = Item(0)
        timeouts.add(item)
        clock.call_at(clock.now + 5, lambda _: setattr(item, "over", True))

    for t in range(0, 10_000, 10):
        clock.call_at(t, add)
    clock.run()
    assert not fired
    # 1000 additions, 1000 ends, one timer per timeout: every entry of the event list has a number.
    assert clock.next_number() <= 2000 + 16


def test_an_item_added_while_another_expires_is_watched():
    clock, expired = Clock(), []

    def expire(item):
        expired.append((item.name, clock.now))
        if item.name < 3:
            timeouts.add(Item(item.name + 1))

    timeouts = Timeouts(clock, 10, lambda i: i.over, expire)
    timeouts.add(Item(0))
    clock.run()
    assert expired == [(0, 10), (1, 20), (2, 30), (3, 40)]
