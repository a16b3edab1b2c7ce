"""Write `docs/state-machine.md`: the transitions of both ends of a session, drawn from the tables of the core.

python -m tools.state_machine
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Final

from smtpcore import (
    AuthCancel,
    AuthResponse,
    Burl,
    ChunkEnd,
    Command,
    ConnectionOpened,
    Data,
    DataEnd,
    Ehlo,
    Helo,
    InvalidCommand,
    InvalidData,
    Lhlo,
    Mail,
    Quit,
    Rcpt,
    ReplyClass,
    Rset,
    StartTls,
    State,
    UnknownCommand,
    Xclient,
)
from smtpcore._state import ALLOWED_COMMANDS, MOVES, WAITING_FOR, Step

PAGE: Final = Path(__file__).parent.parent / "docs" / "state-machine.md"

Move = tuple[State, type[object] | Step, ReplyClass | None]
"""A key of `MOVES`."""


class Role(Enum):
    """An end of a session."""

    SERVER = "server"
    CLIENT = "client"


class Part(Enum):
    """A part of the transitions of an end, with a diagram of its own: the labels of a larger diagram would overlap."""

    SESSION = "The beginning and the end of a session"
    PEER = "TLS, AUTH and XCLIENT"
    DATA = "A message with DATA"
    BDAT = "A message with BDAT"
    BURL = "Replies to BURL"


_NAMES: Final[Mapping[type[object] | Step, str]] = {
    ConnectionOpened: "greeting",
    UnknownCommand: "unknown command",
    AuthResponse: "response",
    AuthCancel: "cancellation",
    ChunkEnd: "end of chunk",
    DataEnd: "end of body",
    InvalidCommand: "invalid line",
    InvalidData: "invalid body",
    Step.CHUNK: "BDAT",
    Step.LAST_CHUNK: "BDAT LAST",
    Step.DISCARDED_CHUNK: "BDAT LAST in LMTP",
    Step.HANDSHAKE: "TLS handshake",
}

_NEGATIVE: Final = (ReplyClass.TRANSIENT, ReplyClass.PERMANENT)
_CLASSES: Final[Mapping[frozenset[ReplyClass | None], str]] = {
    frozenset({ReplyClass.COMPLETION}): "2yz",
    frozenset({ReplyClass.INTERMEDIATE}): "3yz",
    frozenset(_NEGATIVE): "4yz/5yz",
    frozenset({ReplyClass.COMPLETION, *_NEGATIVE}): "any reply",
    frozenset({None}): "",
}

_CHUNKS: Final = {State.CHUNK, State.LAST_CHUNK, State.CHUNKED, State.CHUNK_REFUSED}
_CHUNK_CAUSES: Final = {Step.CHUNK, Step.LAST_CHUNK, Step.DISCARDED_CHUNK, ChunkEnd}
_MESSAGE_CAUSES: Final = {Mail, Rcpt, Data, DataEnd, InvalidData, Rset} | _CHUNK_CAUSES
_SESSION_CAUSES: Final = {ConnectionOpened, Ehlo, Helo, Lhlo, Quit}

_BEFORE_CHUNK: Final = tuple(state for state in State if (state, Burl, ReplyClass.COMPLETION) in MOVES)

_PROSE: Final = """\
# The state machine

<!-- Written by `python -m tools.state_machine` from src/smtpcore/_state.py. Do not edit this page. -->

A session is always in one of {count} states; `conn.state` is the current state. Both ends use the same table: the \
server looks up each reply that it sends, the client each reply that it receives. So both ends are in the same state \
while no command or reply is in transit.

The label of an arrow is a command or another event, and the class of the reply to it. `MAIL 2yz` is a positive reply \
to MAIL. A label without a class is a transition without a reply. The box `session` stands for each of its states. A \
reply without an arrow does not change the state. The transitions of an end are in five diagrams.

Two kinds of transitions are not drawn. A 421 or 521 to any event leads from every state to CLOSED. The end of \
the stream, a failed write, and an error of the protocol also lead to CLOSED.

"""


def takes(role: Role, move: Move) -> bool:
    """Return whether this end can make the transition in a session with a peer."""
    state, cause, reply_class = move
    if move not in MOVES:
        return False
    if role is Role.CLIENT:
        # A client has no events for an invalid line or body, only the replies. After a refused chunk the client sends
        # RSET or QUIT, and it sends STARTTLS and XCLIENT only after the reply to EHLO has offered them.
        return not (
            cause in (InvalidData, InvalidCommand)
            or (state is State.CHUNK_REFUSED and cause not in (Rset, Quit))
            or (state is State.GREETED and cause in (StartTls, Xclient))
            or (state is State.CHUNK and cause is Burl)
            or cause is Step.DISCARDED_CHUNK
        )

    # A server sends the positive reply to BURL only after the octets of BURL, which begin a chunk. Our server refuses
    # DATA without recipients; other servers may accept such a DATA in a group (RFC 2920 3.1).
    is_part = state in _BEFORE_CHUNK and cause in (Burl, DataEnd) and reply_class is ReplyClass.COMPLETION
    return not is_part and not (cause is Data and state is not State.RCPT)


def part_of(state: State, then: State, cause: type[object] | Step) -> Part:
    """Return the part of a transition."""
    if cause is Burl or (cause is DataEnd and state in _BEFORE_CHUNK):
        return Part.BURL
    if cause not in _MESSAGE_CAUSES:
        return Part.SESSION if cause in _SESSION_CAUSES else Part.PEER

    is_chunk = cause in _CHUNK_CAUSES or not _CHUNKS.isdisjoint({state, then})
    return Part.BDAT if is_chunk else Part.DATA


def diagram(role: Role, part: Part) -> Iterator[str]:
    """Yield the lines of a Mermaid diagram of a part of the transitions of one end."""
    classes: dict[tuple[State, State, str], set[ReplyClass | None]] = defaultdict(set)
    for move, then in MOVES.items():
        state, cause, reply_class = move
        is_drawn = then is not state and reply_class is not ReplyClass.GOODBYE and cause is not Step.CLOSE
        if is_drawn and takes(role, move) and part_of(state, then, cause) is part:
            classes[state, then, name(cause, state, role)].add(reply_class)

    sources: dict[tuple[State, str, str], list[State]] = defaultdict(list)
    for (state, then, event), found in classes.items():
        sources[then, event, _CLASSES[frozenset(found)]].append(state)

    # A transition that all states of the session share gets one arrow.
    session = {state for state in State if takes(role, (state, Helo, ReplyClass.COMPLETION))}
    arrows: dict[tuple[str, State], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for (then, event, answer), states in sources.items():
        is_common = {*states, then} >= session
        apart = [state.name for state in states if not is_common or state not in session]
        for source in ["session"] * is_common + apart:
            arrows[source, then][answer].append(event)

    yield from ("stateDiagram-v2", "    direction LR")
    if part is Part.SESSION:
        yield "    [*] --> CONNECTED"
    if any(source == "session" for source, _ in arrows):
        yield f'    state "session: {", ".join(state.name for state in State if state in session)}" as session'
    order = ["session", *(state.name for state in State)]  # the layout follows the order of the lines
    for (source, then), labels in sorted(arrows.items(), key=lambda arrow: order.index(arrow[0][0])):
        text = ", ".join(f"{' or '.join(events)} {answer}".rstrip() for answer, events in labels.items())
        yield f"    {source} --> {then.name}: {text}"
    if part is Part.SESSION:
        yield "    CLOSED --> [*]"


def name(cause: type[object] | Step, state: State, role: Role) -> str:
    """Return the name that the page uses for an event or a step."""
    if cause is DataEnd and state in _BEFORE_CHUNK:
        return "BURL LAST"
    if cause in (Step.CHUNK, Step.LAST_CHUNK) and role is Role.SERVER and state in _BEFORE_CHUNK:
        last = " LAST" if cause is Step.LAST_CHUNK else ""
        return f"BDAT{last} or the octets of BURL{last}"
    if isinstance(cause, type) and issubclass(cause, Command):
        return cause.verb

    return _NAMES[cause]


def page() -> str:
    """Return the text of docs/state-machine.md."""
    lines = [_PROSE.format(count=len(State))]
    for role in Role:
        lines.append(f"## The {role.value}\n")
        for part in Part:
            lines += [f"### {part.value} ({role.value})\n", "```mermaid", *diagram(role, part), "```\n"]

    lines += ["## The states\n", "| state | requests in sequence | a server waits for |", "|---|---|---|"]
    for state in State:
        allowed = ", ".join(sorted(name(kind, state, Role.SERVER) for kind in ALLOWED_COMMANDS.get(state, ())))
        lines.append(f"| {state.name} | {allowed} | `Wait.{WAITING_FOR[state].name}` |")

    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
