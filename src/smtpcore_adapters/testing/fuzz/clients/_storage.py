"""Save behaviours as files, and load them."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .._storage import WRONG, Unreadable
from ._behaviour import Answer, Behaviour, Then

_VERSION = 1


def save_behaviour(path: Path, behaviour: Behaviour, about: Mapping[str, str]) -> None:
    """Write a behaviour to `path`, together with texts about the violation."""
    answers = [
        {
            "key": each.key,
            "reply": None if each.reply is None else each.reply.decode("latin-1"),
            "number": each.number,
            "delay": each.delay,
            "then": each.then.value,
        }
        for each in behaviour.answers
    ]
    content = {"smtpcore-fuzz-listen": _VERSION, **about, **asdict(behaviour), "answers": answers}
    path.write_text(json.dumps(content, indent=2) + "\n")


def load_behaviour(path: Path) -> Behaviour:
    """Read a behaviour. Raise `Unreadable`."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        if content["smtpcore-fuzz-listen"] != _VERSION:
            raise Unreadable(f"{path}: the file was written by another version")

        secure = content["secure_offers"]
        return Behaviour(
            offers=tuple(map(str, content["offers"])),
            secure_offers=None if secure is None else tuple(map(str, secure)),
            starttls=_one_of(content["starttls"], "as set", "always", "never"),
            mechanisms=tuple(map(str, content["mechanisms"])),
            offers_auth_in_plaintext=bool(content["offers_auth_in_plaintext"]),
            certificate=_one_of(content["certificate"], "valid", "unknown authority", "wrong name"),
            segment_size=int(_at_most(_MAX_SEGMENT, content["segment_size"])),
            answers=tuple(map(_answer_of, content["answers"])),
        )
    except (OSError, UnicodeDecodeError) as exc:
        raise Unreadable(f"{path}: {getattr(exc, 'strerror', None) or exc}") from exc
    except WRONG as exc:
        raise Unreadable(f"{path}: this is not a file of smtpcore fuzz --listen") from exc


def _one_of(value: str, *values: Any) -> Any:
    if value not in values:
        raise ValueError(value)

    return value


def _at_most(most: float, value: float) -> float:
    if not 0 <= value <= most:
        raise ValueError(f"{value} is not a number from 0 to {most:g}")

    return value


_MAX_SEGMENT = 1_000_000
_MAX_DELAY = 3600.0


def _answer_of(content: Mapping[str, Any]) -> Answer:
    reply = content["reply"]
    return Answer(
        str(content["key"]),
        None if reply is None else reply.encode("latin-1"),
        int(content["number"]),
        _at_most(_MAX_DELAY, float(content["delay"])),
        Then(content["then"]),
    )
