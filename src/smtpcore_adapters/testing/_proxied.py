"""Clients behind a proxy: XCLIENT commands and PROXY headers, with and without mistakes."""

from .steps import LineStep

CLIENTS = (
    LineStep(b"XCLIENT ADDR=192.0.2.9"),
    LineStep(b"XCLIENT NAME=[UNAVAILABLE] ADDR=192.0.2.9"),
    LineStep(b"XCLIENT ADDR=IPV6:2001:db8::9"),
)
"""XCLIENT commands without mistakes."""
WRONG_CLIENTS = tuple(
    map(
        LineStep,
        (
            b"XCLIENT",
            b"XCLIENT X=1",
            b"XCLIENT ADDR",
            b"XCLIENT ADDR=",
            b"XCLIENT ADDR=x",
            b"XCLIENT ADDR=192.0.2.999",
            b"XCLIENT ADDR=+20",
            b"XCLIENT NAME=\xff",
            b"XCLIENT PORT=99999 ADDR=192.0.2.9",
            b"XCLIENT PROTO=X",
            b"XCLIENT ADDR=192.0.2.9 " + b"X" * 2000,
        ),
    )
)
"""XCLIENT commands with mistakes."""
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_ENDS = b"\xc0\0\2\1\xc0\0\2\2\xc0\0\0\x19"  # 192.0.2.1, 192.0.2.2, port 49152, port 25
HEADERS = (
    b"PROXY TCP4 192.0.2.1 192.0.2.2 49152 25\r\n",
    b"PROXY TCP6 2001:db8::1 2001:db8::2 49152 25\r\n",
    b"PROXY UNKNOWN\r\n",
    _SIGNATURE + b"\x21\x11\x00\x0c" + _ENDS,
    _SIGNATURE + b"\x20\x00\x00\x00",
    _SIGNATURE + b"\x21\x11\x00\x11" + _ENDS + b"\x04\x00\x02xx",
)
"""PROXY headers of both versions: for TCP, without addresses, and with a TLV."""
WRONG_HEADERS = (
    b"",
    b"PROXY\r\n",
    b"proxy TCP4 192.0.2.1 192.0.2.2 1 25\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 70000\r\n",
    b"PROXY TCP4 192.0.2.999 192.0.2.2 1 25\r\n",
    b"PROXY TCP6 192.0.2.1 192.0.2.2 1 25\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25 x\r\n",
    b"PROXY X 192.0.2.1 192.0.2.2 1 25\r\n",
    b"PROXY TCP4 " + b"1" * 200 + b"\r\n",
    _SIGNATURE + b"\x31\x11\x00\x0c" + b"\xc0\0\2\1\xc0\0\2\2\0\1\0\x19",
    _SIGNATURE + b"\x2f\x11\x00\x0c" + b"\xc0\0\2\1\xc0\0\2\2\0\1\0\x19",
    _SIGNATURE + b"\x21\x11\x00\x04" + b"\xc0\0\2\1",
)
"""Malformed PROXY headers of both versions, and no header."""
