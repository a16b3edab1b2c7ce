"""The grammar of SCRAM messages (RFC 5802 section 7)."""

import re
from typing import Any

import pytest

from smtpcore.sasl import _scram_messages
from smtpcore.sasl._scram_messages import (
    ClientFinal,
    ClientFirst,
    ServerFinal,
    ServerFirst,
    has_mandatory_extension,
    parse_client_final,
    parse_client_first,
    parse_server_final,
    parse_server_first,
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n,,n=user,r=abc", ClientFirst("n,,", "n", None, "user", "abc", "n=user,r=abc")),
        ("y,a=x=2Cy,n=u=3D,r=a+=", ClientFirst("y,a=x=2Cy,", "y", "x,y", "u=", "a+=", "n=u=3D,r=a+=")),
        (
            "p=tls-server-end-point,,n=\u00e9,r=!~,x=foo,Y==",
            ClientFirst(
                "p=tls-server-end-point,,", "p=tls-server-end-point", None, "\u00e9", "!~", "n=\u00e9,r=!~,x=foo,Y=="
            ),
        ),
    ],
)
def test_client_first_message_is_parsed(text: str, message: ClientFirst) -> None:
    assert parse_client_first(text) == message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x,,n=user,r=abc",  # R5802-5-01
        "N,,n=user,r=abc",
        "n,n=user,r=abc",
        "n,b=x,n=user,r=abc",
        "n,a=,n=user,r=abc",
        "p,,n=user,r=abc",
        "p=,,n=user,r=abc",
        "p=tls_unique,,n=user,r=abc",
        "n,,r=abc,n=user",  # R5802-5.1-01
        "n,,N=user,r=abc",  # R5802-5.1-01
        "n,,n=user,R=abc",
        "n,,n=,r=abc",
        "n,,n=user",
        "n,,n=user,r=",
        "n,,n=user,r=a b",
        "n,,n=user,r=\u00e9",
        "n,,n=a=2Db,r=abc",  # R5802-5.1-03
        "n,,n=a=,r=abc",  # R5802-5.1-03
        "n,,n=a\0,r=abc",
        "n,,n=user,r=abc,",
        "n,,n=user,r=abc,x",
        "n,,n=user,r=abc,x=",
        "n,,n=user,r=abc,xy=z",
        "n,,n=user,r=abc,r=abc",
        "n,,n=user,r=abc\n",
    ],
)
def test_invalid_client_first_message_is_not_parsed(text: str) -> None:
    assert parse_client_first(text) is None


def test_server_first_message_is_parsed() -> None:
    assert parse_server_first("r=abc%$,s=c2FsdA==,i=4096") == ServerFirst("abc%$", b"salt", 4096)
    assert parse_server_first("r=abc,s=c2FsdA==,i=1,x=y") == ServerFirst("abc", b"salt", 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s=c2FsdA==,r=abc,i=4096",
        "r=abc,s=,i=4096",
        "r=abc,s=c2FsdA=,i=4096",  # R5802-7-01
        "r=abc,s=c2FsdB==,i=4096",
        "r=abc,s=c2F*,i=4096",
        "r=abc,s=c2FsdA==,i=0",  # R5802-7-01
        "r=abc,s=c2FsdA==,i=04096",  # R5802-7-01
        "r=abc,s=c2FsdA==,i=-1",
        "r=abc,s=c2FsdA==,i=\u0661",
        "r=abc,s=c2FsdA==,i=99999999999",
        "r=abc,s=c2FsdA==",
        "e=other-error",
    ],
)
def test_invalid_server_first_message_is_not_parsed(text: str) -> None:
    assert parse_server_first(text) is None


def test_client_final_message_is_parsed() -> None:
    assert parse_client_final("c=biws,r=abc,p=AAAA") == ClientFinal("biws", "abc", b"\0\0\0", "c=biws,r=abc")
    assert parse_client_final("c=biws,r=abc,x=p,p=AAAA") == ClientFinal("biws", "abc", b"\0\0\0", "c=biws,r=abc,x=p")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "c=biws,r=abc",
        "c=biws,r=abc,p=",
        "c=biws,r=abc,p=AAA",  # R5802-7-01
        "c=biws,r=abc,p=AAB=",
        "c=biws,r=abc,p=A=AA",
        "c=biws,r=abc,p=AAAA,x=y",
        "c=,r=abc,p=AAAA",
        "c=bi*s,r=abc,p=AAAA",
        "r=abc,c=biws,p=AAAA",
        "c=biws,r=abc,p=AAAA,p=AAAA",
    ],
)
def test_invalid_client_final_message_is_not_parsed(text: str) -> None:
    assert parse_client_final(text) is None


def test_server_final_message_is_parsed() -> None:
    assert parse_server_final("v=AAAA") == ServerFinal(b"\0\0\0", None)
    assert parse_server_final("v=AAAA,x=y") == ServerFinal(b"\0\0\0", None)
    assert parse_server_final("e=invalid-proof") == ServerFinal(None, "invalid-proof")
    for text in ("", "v=", "v=AAA", "e=", "v=AAAA,e=x", "x=y"):
        assert parse_server_final(text) is None


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("n,,m=ext,n=user,r=abc", True),
        ("n,,n=user,r=abc,m=x", True),
        ("m=ext,r=abc", True),
        ("n,,n=m=3D,r=abcm=,x=m=", False),
    ],
)
def test_mandatory_extension_is_found_at_any_position(text: str, has: bool) -> None:
    """R5802-5.1-05"""
    assert bool(has_mandatory_extension(text)) is has


def test_every_attribute_letter_is_either_defined_or_reserved() -> None:
    later = {letter for letter in map(chr, range(128)) if re.fullmatch(_scram_messages._LATER, f",{letter}=x")}

    assert later == {letter for letter in map(chr, range(128)) if letter.isalpha()} - set("aceimnprsv")


@pytest.mark.parametrize(
    "message",
    [
        ServerFirst("abc", b"Secret", 4096),
        ClientFinal("Secret", "abc", b"Secret", "Secret"),
        ServerFinal(b"Secret", None),
    ],
)
def test_repr_of_scram_messages_hides_secrets(message: Any) -> None:
    assert "Secret" not in repr(message)
