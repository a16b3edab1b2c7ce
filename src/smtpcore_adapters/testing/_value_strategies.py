"""Hypothesis strategies for addresses, commands, replies and bodies. All drawn values are valid."""

# Hypothesis shrinks to the fewest draws first, and then to the first alternative of each draw. So in each `one_of` the
# first alternative is a `sampled_from` with the plainest value first: one draw is the minimum. A `just` of an extreme
# value as a later alternative would have even fewer draws, so that every failing test would show the extreme value.

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from string import ascii_letters, ascii_lowercase, digits
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from smtpcore import (
    EXTENSIONS,
    Auth,
    Bdat,
    Burl,
    ByMode,
    Command,
    Data,
    DeliverBy,
    Ehlo,
    EnvelopeId,
    Etrn,
    Expn,
    Extension,
    Helo,
    Help,
    Lhlo,
    Mail,
    Mailbox,
    Noop,
    Notify,
    OriginalRecipient,
    Parameter,
    Params,
    Path,
    Quit,
    Rcpt,
    Reply,
    Rset,
    StartTls,
    Vrfy,
)

_ATOM = ascii_letters + digits + "!#$%&'*+-/=?^_`{|}~"
_BEYOND_ASCII = "\u00e4\u00df\u0416\u4e2d\U0001f4e7"
_PRINTABLE = st.characters(min_codepoint=0x20, max_codepoint=0x7E)

# RFC 5321 4.5.3.1.1 and 4.5.3.1.2
_MAX_LOCAL_PART = 64
_MAX_DOMAIN = 255
_MAX_LABEL = 63  # RFC 1035 2.3.4


# Addresses


def domains(*, utf8: bool = False) -> SearchStrategy[str]:
    """Draw domains and address literals in brackets; with `utf8` also non-ASCII labels (RFC 6531 3.3)."""
    letters = st.sampled_from(ascii_lowercase + digits + (_BEYOND_ASCII if utf8 else ""))
    label = st.lists(st.text(letters, min_size=1, max_size=8), min_size=1, max_size=4).map("-".join)
    name = st.lists(label, min_size=1, max_size=4).map(".".join)
    ipv4 = st.ip_addresses(v=4).map(lambda address: f"[{address}]")
    ipv6 = st.ip_addresses(v=6).map(lambda address: f"[IPv6:{address}]")
    return st.one_of(st.sampled_from(["c.example", _longest_domain()]), name, name, ipv4, ipv6)


def _longest_domain() -> str:
    labels = ["d" * _MAX_LABEL] * 4
    return ".".join(labels)[:_MAX_DOMAIN]


def mailboxes(*, utf8: bool = False) -> SearchStrategy[Mailbox]:
    """Draw mailboxes with atoms and quoted strings, of every length up to the maximum (RFC 5321 4.5.3.1.1)."""
    letters = st.sampled_from(_ATOM + (_BEYOND_ASCII if utf8 else ""))
    atoms = st.lists(st.text(letters, min_size=1, max_size=8), min_size=1, max_size=3).map(".".join)
    quoted = st.text(_PRINTABLE, max_size=12).map(_quote)
    local_parts = st.one_of(st.sampled_from(["a", "l" * _MAX_LOCAL_PART]), atoms, atoms, quoted)
    return st.tuples(local_parts, domains(utf8=utf8)).map(lambda parts: Mailbox("@".join(parts)))


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def paths(*, null: bool = True, utf8: bool = False) -> SearchStrategy[Path]:
    """Draw the content of angle brackets: mailboxes, some with a source route, and with `null` also the empty path."""
    plain = mailboxes(utf8=utf8).map(lambda mailbox: Path(str(mailbox)))
    routed = mailboxes(utf8=utf8).map(lambda mailbox: Path(f"@relay.example,@b.example:{mailbox}"))
    shortest = st.sampled_from([Path("a@c.example"), *([Path("")] if null else [])])
    return st.one_of(shortest, plain, plain, routed)


# Commands


def mail_params(extensions: Sequence[Extension] = EXTENSIONS) -> SearchStrategy[Params]:
    """Return a strategy for parameters of MAIL, including extensions that `Config` disables by default."""
    return _params(parameter for extension in extensions for parameter in extension.mail)


def rcpt_params(extensions: Sequence[Extension] = EXTENSIONS) -> SearchStrategy[Params]:
    """Return a strategy for parameters of RCPT, including extensions that `Config` disables by default."""
    return _params(parameter for extension in extensions for parameter in extension.rcpt)


def _params(parameters: Iterable[Parameter[Any]]) -> SearchStrategy[Params]:
    values = {parameter.keyword: st.sampled_from(parameter.examples) for parameter in parameters if parameter.examples}
    values |= {keyword: varied for keyword, varied in _VALUES.items() if keyword in values}
    return st.fixed_dictionaries({}, optional=values).map(_without_conflicts).map(Params)


def _without_conflicts(values: dict[str, object]) -> dict[str, object]:
    # RFC 4865: HOLDFOR excludes HOLDUNTIL (4.2 (10)), and may not exceed BY (5.2.2).
    if not values.keys().isdisjoint({"HOLDUNTIL", "BY"}):
        values.pop("HOLDFOR", None)

    return values


_PRINTABLE_TEXT = st.text(_PRINTABLE, min_size=1, max_size=20)
_EVENTS = st.sets(st.sampled_from([Notify.SUCCESS, Notify.FAILURE, Notify.DELAY]), min_size=1).map(frozenset)
_VALUES: Mapping[str, SearchStrategy[object]] = {
    "SIZE": st.integers(0, 10**9),
    "ENVID": _PRINTABLE_TEXT.map(EnvelopeId.of),
    "BY": st.builds(DeliverBy, st.integers(1, 10**6), st.sampled_from(ByMode), st.booleans()),
    "HOLDUNTIL": st.datetimes(datetime(2000, 1, 1), datetime(2099, 1, 1), timezones=st.just(UTC)),
    "MT-PRIORITY": st.integers(-9, 9),
    "NOTIFY": st.sampled_from([frozenset({Notify.SUCCESS}), frozenset({Notify.NEVER})]) | _EVENTS,
    "ORCPT": _PRINTABLE_TEXT.map(lambda text: OriginalRecipient.of("rfc822", text)),
}
"""Strategies for values that are more varied than `Parameter.examples`."""


def commands(*, utf8: bool = False) -> SearchStrategy[Command]:
    """Draw any command, with or without parameters.

    `command.encode()` is the wire form, CR LF included. `str(command)` masks the initial response of AUTH.
    """
    words = st.text(_PRINTABLE, min_size=1, max_size=20).map(str.strip).filter(bool)
    hosts = domains()
    names = domains().filter(lambda name: "[" not in name and "." in name)
    return st.one_of(
        st.sampled_from([Noop(), Data(), Rset(), Quit(), StartTls(), Help()]),
        st.builds(Mail, paths(utf8=utf8), mail_params()),
        st.builds(Rcpt, paths(null=False, utf8=utf8), rcpt_params()),
        st.builds(Bdat, st.integers(0, 10**6), last=st.booleans()),
        *(st.builds(hello, hosts) for hello in (Helo, Ehlo, Lhlo)),
        *(st.builds(kind, words.filter(_is_plain)) for kind in (Noop, Help, Vrfy, Expn)),
        st.builds(Etrn, names),
        st.builds(Burl, names.map(lambda name: f"imap://{name}/box"), last=st.booleans()),
        st.builds(Auth, st.sampled_from(["PLAIN", "LOGIN", "CRAM-MD5"]), st.one_of(st.none(), st.binary(max_size=20))),
    )


def _is_plain(text: str) -> bool:
    # Parsing removes the quotes of a quoted string, and treats a final SMTPUTF8 as a parameter. So such texts would not
    # be equal after encoding and parsing.
    return '"' not in text and not text.upper().endswith("SMTPUTF8")


# Replies


def replies(*, positive: bool | None = None) -> SearchStrategy[Reply]:
    """Draw replies of one or more lines, with and without enhanced status code.

    `positive=True` draws only 2yz, `positive=False` only 4yz and 5yz. 3yz are never drawn, because they change the
    state of the dialogue.
    """
    classes = [2] * (positive is not False) + [4, 5] * (positive is not True)
    line = st.sampled_from(["text", ""]) | st.text(_PRINTABLE, max_size=40)
    lines = st.lists(line, min_size=1, max_size=3)
    second_digit = st.sampled_from([5, 0, 1, 2, 3, 4])  # so that the simplest reply is a 250
    return st.builds(
        _reply, st.sampled_from(classes), second_digit, st.integers(0, 9), lines, st.none() | st.integers(0, 999)
    )


def _reply(kind: int, second: int, third: int, lines: list[str], detail: int | None) -> Reply:
    enhanced = None if detail is None else f"{kind}.{second}.{detail}"
    return Reply(kind * 100 + second * 10 + third, *lines, enhanced=enhanced)


# Bodies and segments


def bodies(*, binary: bool = False) -> SearchStrategy[bytes]:
    """Draw messages before dot-stuffing: lines that end in CR LF, many of them with leading dots.

    With `binary`, draw any octets, for BDAT with BODY=BINARYMIME (RFC 3030).
    """
    if binary:
        return st.lists(st.sampled_from([*_AWKWARD, b"\x00", b"\xff", b"\r", b"\n", b"\r\n"]) | st.binary()).map(
            b"".join
        )

    text = st.binary(max_size=30).map(lambda octets: bytes(0x20 + octet % 0x5F for octet in octets))
    return st.lists(st.sampled_from(_AWKWARD) | text, max_size=8).map(
        lambda lines: b"".join(line + b"\r\n" for line in lines)
    )


_AWKWARD = [b"", b".", b"..", b".x", b"QUIT", b"RSET", b"From x", b"Subject: hello", b"a" * 998, b"BDAT 3"]


def segments(data: bytes) -> SearchStrategy[list[bytes]]:
    """Draw ways to cut `data` into non-empty pieces, as a network may: one piece, single octets, or any pieces.

    The simplest way is one piece, and the next one is a cut after the first octet.
    """
    places = st.lists(st.integers(0, len(data)), max_size=8).map(lambda drawn: [0, *sorted(set(drawn)), len(data)])
    cut = places.map(lambda edges: [data[start:end] for start, end in pairwise(edges) if start < end])
    octets = [data[at : at + 1] for at in range(len(data))]
    edges = [[data], [data[:1], data[1:]], octets]
    simple = st.sampled_from([[piece for piece in pieces if piece] for pieces in edges])
    return simple | cut
