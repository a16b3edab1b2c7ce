"""The table of the built-in extensions, in the order of the reply to EHLO."""

from . import (
    _auth,
    _body,
    _burl,
    _deliverby,
    _dsn,
    _etrn,
    _futurerelease,
    _limits,
    _mt_priority,
    _no_soliciting,
    _requiretls,
    _rrvs,
    _size,
    _smtputf8,
    _xclient,
    _xforward,
)
from ._definition import Extension
from ._parsing import parse_nothing


class _Builtin(tuple[Extension, ...]):
    __slots__ = ()

    def __repr__(self) -> str:
        return "EXTENSIONS"  # the value would make the help of each function with this default unreadable


EXTENSIONS: tuple[Extension, ...] = _Builtin(
    (
        Extension(keyword="PIPELINING", parse_arguments=parse_nothing),  # RFC 2920
        _size.EXTENSION,
        _body.EIGHT_BIT_MIME,
        _smtputf8.EXTENSION,
        Extension(keyword="CHUNKING", parse_arguments=parse_nothing, verbs=frozenset({"BDAT"})),  # RFC 3030
        _body.BINARYMIME,
        _auth.EXTENSION,
        _dsn.EXTENSION,
        _deliverby.EXTENSION,
        _futurerelease.EXTENSION,
        _mt_priority.EXTENSION,
        _requiretls.EXTENSION,
        _rrvs.EXTENSION,
        _no_soliciting.EXTENSION,
        _limits.EXTENSION,
        _etrn.EXTENSION,
        _burl.EXTENSION,
        _xclient.EXTENSION,
        _xforward.EXTENSION,
        Extension(keyword="ENHANCEDSTATUSCODES", parse_arguments=parse_nothing),  # RFC 2034
        Extension(
            keyword="STARTTLS",
            parse_arguments=parse_nothing,
            offered=lambda config, tls: config.starttls and not tls,  # RFC 3207 4.2: not offered under TLS
            verbs=frozenset({"STARTTLS"}),
        ),
        # RFC 5321 3.5.2: VRFY is implemented even where it is not announced, but EXPN has to be announced.
        Extension(keyword="VRFY", parse_arguments=parse_nothing),
        Extension(keyword="EXPN", parse_arguments=parse_nothing, verbs=frozenset({"EXPN"})),
        Extension(keyword="HELP", parse_arguments=parse_nothing, verbs=frozenset({"HELP"})),  # RFC 5321 4.1.1.8
    )
)
"""The built-in extensions. Pass `(*EXTENSIONS, yours)` to a connection to add your own."""
