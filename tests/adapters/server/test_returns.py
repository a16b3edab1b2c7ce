"""Items that sessions give back while a lock is held."""

from smtpcore_adapters.server._returns import Returns


def test_what_is_given_back_under_the_lock_waits_for_its_release() -> None:
    taken: list[str] = []
    returns = Returns[str](lambda: taken.append(returns.queue.popleft()))
    with returns.lock:
        returns.queue.append("a")
        returns.settle()
    assert not taken

    returns.queue.append("b")
    returns.settle()
    assert taken == ["a", "b"]


def test_what_is_given_back_after_the_last_look_at_the_queue_does_not_stay_in_it() -> None:
    taken: list[str] = []
    late = ["b", "c"]

    def take_all() -> None:
        while returns.queue:
            taken.append(returns.queue.popleft())
        if late:  # another thread, just before the lock is released
            returns.queue.append(late.pop(0))
            returns.settle()

    returns = Returns[str](take_all)
    returns.queue.append("a")
    returns.settle()
    assert taken == ["a", "b", "c"]
