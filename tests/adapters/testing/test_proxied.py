"""XCLIENT commands and PROXY headers are valid or malformed, as their names say."""

from contextlib import suppress

import pytest
from hypothesis import given, settings

from smtpcore import OFF_BY_DEFAULT, InvalidCommand, RemoteProtocolError, Signal, Xclient
from smtpcore.proxy import ProxyHeader, ProxyReader
from smtpcore_adapters.testing import strategies
from smtpcore_adapters.testing._proxied import CLIENTS, HEADERS, WRONG_CLIENTS, WRONG_HEADERS
from smtpcore_adapters.testing.steps import LineStep
from tests.playbook import READY, server

few_examples = settings(max_examples=60, deadline=None)


@pytest.mark.parametrize("step", [*CLIENTS, *WRONG_CLIENTS], ids=str)
def test_only_wrong_xclient_commands_are_refused(step: LineStep) -> None:
    book = server(READY, disabled=OFF_BY_DEFAULT - {"XCLIENT"}).send(step.pieces[0])

    assert isinstance(book.events[-1], InvalidCommand if step in WRONG_CLIENTS else Xclient)


def header_of(octets: bytes) -> ProxyHeader | Signal:
    reader = ProxyReader()
    reader.receive_data(octets)
    return reader.next_header()


@given(strategies.proxy_headers())
@few_examples
def test_valid_proxy_header_is_read_whole(octets: bytes) -> None:
    assert isinstance(header_of(octets), ProxyHeader)


@given(strategies.proxy_headers(valid=False))
@few_examples
def test_invalid_proxy_header_is_refused_or_incomplete(octets: bytes) -> None:
    with suppress(RemoteProtocolError):
        assert header_of(octets) is Signal.NEED_DATA


def test_all_headers_are_drawn() -> None:
    for octets in WRONG_HEADERS[1:]:
        with pytest.raises(RemoteProtocolError):
            header_of(octets + b"EHLO c.example\r\n")
    assert all(isinstance(header_of(octets), ProxyHeader) for octets in HEADERS)
