"""The progress of a body."""

from smtpcore_adapters.client._progress import Progress


def test_each_body_is_counted_from_zero() -> None:
    seen: list[tuple[int, int | None]] = []
    progress = Progress(lambda sent, total: seen.append((sent, total)), 5)
    for _ in range(2):
        progress.begin()
        progress.add(2)
        progress.add(3)
    assert seen == [(2, 5), (5, 5)] * 2


def test_progress_without_a_function_is_not_reported() -> None:
    progress = Progress()
    progress.begin()
    progress.add(2)
