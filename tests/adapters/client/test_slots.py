"""The decisions of a pool, without connections."""

import pytest

from smtpcore import Answered, Data, DataEnd, Mail, Noop, Path, Reply
from smtpcore_adapters.client._slots import LEARNT_FOR, Pooled, Slot, Slots

MAIL = Mail(Path("a@c.example"))


class Flag:
    """An event that nobody waits for."""

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def was_set(self) -> bool:
        return self._is_set

    async def wait(self) -> None:
        raise NotImplementedError


class Book:
    """Slots with a clock."""

    def __init__(self, size: int = 2, max_age: float = 300, max_uses: int = 100) -> None:
        self.now = 1000.0
        self.slots: Slots[str] = Slots("s.example:25", size, max_age, max_uses, lambda: self.now)

    def request(self) -> Slot[str]:
        return self.slots.request(Flag())

    def opened(self, name: str = "x", uses: int = 1) -> Slot[str]:
        """Return a granted slot with a new connection."""
        slot = self.request()
        assert slot.is_granted
        slot.connection = Pooled(name, self.now)
        slot.connection.uses = uses
        return slot

    def learn(self, uses: int, goodbye: Answered, after: float = 0.0) -> float:
        """Let the server end a connection after this number of messages, and return the limit of the pool."""
        connection = Pooled("x", self.now)
        connection.uses = uses
        self.now += after
        self.slots.learn(connection, goodbye)
        return self.slots.max_uses


def granted(*slots: Slot[str]) -> list[bool]:
    return [slot.is_granted for slot in slots]


def woken(*slots: Slot[str]) -> list[bool]:
    return [isinstance(slot.event, Flag) and slot.event.was_set() for slot in slots]


def goodbye(to: object, enhanced: str = "") -> Answered:
    return Answered(to, Reply(421, "bye", enhanced=enhanced or None))  # type: ignore[arg-type]


# Slots


def test_slots_are_granted_up_to_the_size() -> None:
    book = Book()
    one, two, three = book.request(), book.request(), book.request()
    assert granted(one, two, three) == [True, True, False]
    assert woken(one, two, three) == [True, True, False]

    book.slots.end(one)
    assert three.is_granted
    assert three.connection is None


def test_slots_are_granted_in_the_order_of_their_requests() -> None:
    book = Book(size=1)
    first = book.opened()
    waiting = [book.request() for _ in range(3)]
    for index, slot in enumerate(waiting):
        book.slots.give_back(waiting[index - 1] if index else first)
        assert granted(*waiting) == [True] * (index + 1) + [False] * (2 - index)
        assert slot.connection is first.connection


def test_slot_that_stops_waiting_leaves_the_queue() -> None:
    book = Book(size=1)
    first, second, third = book.opened(), book.request(), book.request()
    book.slots.end(second)
    book.slots.end(first)
    assert third.is_granted
    assert not second.is_granted


def test_connection_that_was_used_last_is_used_first() -> None:
    book = Book()
    one, two = book.opened("one"), book.opened("two")
    book.slots.give_back(one)
    book.slots.give_back(two)
    assert one.connection
    assert one.connection.is_reused
    again = book.request()
    assert again.connection is two.connection


def test_old_idle_connections_are_returned_to_be_closed() -> None:
    book = Book(max_age=60)
    one, two = book.opened("one"), book.opened("two")
    book.slots.give_back(one)
    book.now += 60
    assert two.connection
    two.connection.opened = book.now
    too_old = book.slots.give_back(two)
    assert [each.client for each in too_old] == ["one"]

    book.opened("three")
    waiting = book.request()
    assert not waiting.is_granted, "the old connection counts until it is closed"
    book.slots.count_closed()
    assert waiting.is_granted


def test_connection_is_kept_while_it_is_fresh() -> None:
    book = Book(max_age=60, max_uses=10)
    slot = book.opened(uses=9)
    assert slot.connection
    assert book.slots.may_keep(slot.connection)
    slot.connection.uses = 10
    assert not book.slots.may_keep(slot.connection)
    slot.connection.uses = 9
    slot.connection.most_uses = 9
    assert not book.slots.may_keep(slot.connection)
    slot.connection.most_uses = 10
    book.now += 60
    assert not book.slots.may_keep(slot.connection)


# The end


def test_closed_pool_refuses_new_slots_and_grants_waiting_ones() -> None:
    book = Book(size=1)
    first, second = book.opened(), book.request()
    end = Flag()
    assert book.slots.close(end) == []
    with pytest.raises(RuntimeError, match=r"the pool of connections to s\.example:25 is closed"):
        book.request()

    assert first.connection
    assert book.slots.may_keep(first.connection), "another slot waits for it"
    book.slots.give_back(first)
    assert second.is_granted
    assert second.connection
    assert not book.slots.may_keep(second.connection)
    assert not end.was_set()
    book.slots.end(second)
    assert end.was_set()


def test_closed_pool_ends_when_its_idle_connections_are_closed() -> None:
    book = Book()
    book.slots.give_back(book.opened("one"))
    end, again = Flag(), Flag()
    assert [each.client for each in book.slots.close(end)] == ["one"]
    assert not end.was_set()
    assert book.slots.close(again) == []
    book.slots.count_closed()
    assert end.was_set()
    assert again.was_set()


def test_closed_pool_ends_when_the_last_slot_stops_waiting() -> None:
    book = Book(size=1)
    first, second = book.opened(), book.request()
    end = Flag()
    book.slots.close(end)
    book.slots.end(second)
    assert not end.was_set()
    book.slots.end(first)
    assert end.was_set()


# Learning


@pytest.mark.parametrize(
    ("reply", "limit"),
    [
        (goodbye(MAIL), 6),
        (goodbye(MAIL, "4.7.0"), 6),
        (goodbye(None), 7),
        (goodbye(Noop()), 7),
        (goodbye(Data()), 100),
        (goodbye(DataEnd()), 100),
        (goodbye(MAIL, "4.4.2"), 100),
        (goodbye(None, "4.3.2"), 100),
    ],
)
def test_number_of_messages_is_learnt_from_a_421_between_messages(reply: Answered, limit: float) -> None:
    assert Book().learn(7, reply) == limit


def test_421_to_the_first_message_sets_no_limit() -> None:
    assert Book().learn(1, goodbye(MAIL)) == 100
    assert Book().learn(0, goodbye(None)) == 100


def test_421_after_a_pause_sets_no_limit() -> None:
    assert Book().learn(7, goodbye(MAIL), after=6) == 100
    assert Book().learn(7, goodbye(MAIL), after=5) == 6


def test_learnt_limit_is_forgotten() -> None:
    book = Book()
    assert book.learn(7, goodbye(MAIL)) == 6
    book.now += LEARNT_FOR
    assert book.slots.max_uses == 100


def test_refusal_of_a_connection_limits_the_size_and_its_slot_waits_first() -> None:
    book = Book(size=3)
    first, second, third, fourth = book.opened(), book.opened(), book.request(), book.request()
    assert book.slots.requeue(third, Flag())
    assert book.slots.size == 2
    assert granted(third, fourth) == [False, False]
    assert woken(third) == [False]

    book.slots.give_back(first)
    assert granted(third, fourth) == [True, False]
    book.now += LEARNT_FOR
    book.slots.end(second)
    assert granted(third, fourth) == [True, True]
    assert book.slots.size == 3


def test_slot_whose_connection_was_refused_gets_an_idle_connection() -> None:
    book = Book(size=3)
    one, two = book.opened("one"), book.opened("two")
    book.slots.give_back(two)
    book.slots.give_back(one)
    slots = [book.request() for _ in range(3)]
    assert slots[2].connection is None
    book.slots.give_back(slots[1])
    assert book.slots.requeue(slots[2], Flag())
    assert slots[2].is_granted
    assert slots[2].connection is slots[1].connection


def test_refusal_of_the_only_connection_is_an_error() -> None:
    book = Book()
    slot = book.request()
    assert not book.slots.requeue(slot, Flag())
    assert slot.is_granted
    assert book.slots.size == 2
