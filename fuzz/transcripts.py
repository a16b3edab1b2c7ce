"""Any octets from a client give the same transcript however they are segmented, without secrets and control characters.

Each line of the transcript begins with its side, and the lines are read as a recording.
"""

import re
from itertools import cycle

from smtpcore import Config, Reply
from smtpcore_adapters import App, Message, Session
from smtpcore_adapters._printable import printable
from smtpcore_adapters.explain import Side, Unreadable, read
from smtpcore_adapters.transcript import Transcript, mask_auth
from smtpcore_adapters.users import Users
from tests.adapters.playbook import session

from .harness import Draw, cuts
from .server import make_config

USERS = Users({"tim": "secret"})
SECRETS = (b"AHRpbQBzZWNyZXQ=", b"c2VjcmV0")
"""The initial response of PLAIN, and the password, in base64."""
REPLIES = (None, Reply(250, "Fine"), Reply(451, "4.3.0 Later"), Reply(550, "\x1b[31m", "\u2028C: no"), Reply(421))
MAX_OCTETS = 1000
"""The number of octets of a session. A session octet by octet takes long."""
HEAD = 8
"""The number of octets at the front of an input that are choices."""


def transcribe(config: Config, answers: bytes, segments: list[bytes]) -> list[str]:
    """Return the transcript of a session."""
    lines: list[str] = []
    app = App()
    app.include(Transcript(lambda session, line: lines.append(line)))
    app.include(USERS)
    choices = cycle(answers)

    @app.on("default")
    async def answer(session: Session, event: object) -> Reply | None:
        return REPLIES[next(choices) % len(REPLIES)]

    @app.on("RCPT")
    async def accept(session: Session, event: object) -> Reply:
        return REPLIES[next(choices) % len(REPLIES)] or Reply(250)

    @app.on("message")
    async def read_message(session: Session, message: Message) -> Reply | None:
        await message.read()
        return REPLIES[next(choices) % len(REPLIES)] or Reply(250)

    session(app, config=config).send(*segments).end()
    return lines


def check(lines: list[str]) -> None:
    """Check the lines of a transcript, and that they are read as they were written."""
    assert lines[0] == "-- opened"
    assert re.match(r"-- closed after [0-9.]+ s: ", lines[-1])
    for line in lines:
        assert line.isprintable()
        assert line.startswith(("C: ", "S: ", "-- "))
    try:
        recordings = read("\n".join(lines).encode())
    except Unreadable:
        assert not any(re.match("S: [2-5][0-5][0-9]", line) for line in lines)
        return

    read_again = [item for recording in recordings for item in recording.items if item.side is not Side.TLS]
    letters = {Side.CLIENT: "C: ", Side.SERVER: "S: "}
    written = [line for line in lines if not line.startswith("-- ")]
    assert [letters[item.side] + item.data.decode().removesuffix("\r\n") for item in read_again] == written


def check_mask(text: str) -> None:
    """Check that masking a text twice is the same as once, and that a printable text stays as it is."""
    once = mask_auth(text)
    assert mask_auth(once) == once
    shown = printable(once)
    assert shown.isprintable()
    assert printable(shown) == shown
    for secret in SECRETS:
        assert secret.decode() not in mask_auth(f"AUTH PLAIN {secret.decode()} {text}")


def test_one_input(data: bytes) -> None:
    """Run a session three times, with three different segmentations."""
    draw = Draw(data)
    config = make_config(draw)
    place = draw.byte()
    answers = draw.octets(HEAD - 3)
    octets = draw.octets(MAX_OCTETS).rstrip(b"\0")

    whole, *others = (transcribe(config, answers, segments) for segments in cuts(octets, place))
    check(whole)
    check_mask(octets.decode(errors="replace"))
    # Octets after STARTTLS may arrive before or after its reply, depending on the segments.
    if not (config.starttls and b"STARTTLS" in octets.upper()):
        assert others == [whole, whole]
