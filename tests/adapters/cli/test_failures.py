"""Errors of a client in words, with different exit statuses for temporary and permanent failures."""

import ssl
from socket import EAI_AGAIN, EAI_NONAME, gaierror

import pytest

from smtpcore import LocalProtocolError, Path, ProtocolError, RemoteProtocolError, Reply
from smtpcore_adapters import Disconnected, Refused, SendResult, TlsMode, Unsendable
from smtpcore_adapters.cli._failures import explain, status_of_error, status_of_result

OK, LATER, NO = Reply(250, "ok"), Reply(451, "later"), Reply(550, "no")
TRUST = "; --tls-ca trusts an authority, and --insecure accepts any certificate"


@pytest.mark.parametrize(
    ("replies", "status"),
    [([OK], 0), ([OK, NO], 1), ([OK, LATER], 1), ([NO, NO], 69), ([LATER], 75), ([NO, LATER], 75)],
)
def test_status_of_a_result(replies: list[Reply], status: int) -> None:
    result = SendResult({Path(f"b{number}@s.example"): reply for number, reply in enumerate(replies)}, replies[-1])
    assert status_of_result(result) == status


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConnectionRefusedError(111, "Connection refused"), 75),
        (TimeoutError("too slow"), 75),
        (Disconnected("closed"), 75),
        (Refused("no", Reply(421, "busy")), 75),
        (gaierror(EAI_AGAIN, "try again"), 75),
        (Refused("no", Reply(554, "no")), 69),
        (Refused("the server does not offer STARTTLS"), 69),
        (Unsendable(Reply(552, "too large")), 69),
        (Unsendable(Reply(452, "too many")), 75),
        (RemoteProtocolError("nonsense"), 69),
        (ssl.SSLError(1, "no"), 69),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), 75),
        (gaierror(EAI_NONAME, "unknown"), 69),
        (FileNotFoundError(2, "No such file"), 69),
        (LocalProtocolError("no address"), 2),
    ],
)
def test_status_of_an_error(error: OSError | ProtocolError, status: int) -> None:
    assert status_of_error(error) == status


def certificate_error(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, "something else"
    return error


def tls_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}] text of OpenSSL")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            certificate_error(62),
            "the certificate is not valid: it is for another name; try the name in the certificate",
        ),
        (certificate_error(10), f"the certificate is not valid: it has expired{TRUST}"),
        (certificate_error(9), f"it is not valid yet{TRUST}"),
        (certificate_error(18), f"it is self-signed, so no known authority vouches for it{TRUST}"),
        (certificate_error(20), f"its authority is unknown on this machine{TRUST}"),
        (certificate_error(99), f"the certificate is not valid: something else{TRUST}"),
        (tls_error("WRONG_VERSION_NUMBER"), "this port speaks plaintext; try --tls starttls"),
        (tls_error("UNSUPPORTED_PROTOCOL"), "this machine and the server have no version of TLS in common"),
        (tls_error("STRANGE"), "text of OpenSSL"),
        (ConnectionRefusedError(111, "Connection refused"), "s.example:25: Connection refused"),
        (OSError(111), "s.example:25: "),
        (TimeoutError("s.example:25: the server was slow"), "s.example:25: the server was slow; --timeout sets"),
        (TimeoutError(110, "Connection timed out"), "s.example:25: Connection timed out"),
        (Refused("no", Reply(554, "no\x1b[2J\nmore")), "s.example:25: no: 554-no?[2J 554 more"),
    ],
)
def test_error_is_explained_in_one_line(error: OSError | ProtocolError, text: str) -> None:
    line = explain(error, "s.example:25", TlsMode.IMPLICIT)
    assert text in line
    assert line.startswith("s.example:25: ")
    assert "\n" not in line


def test_hint_depends_on_the_mode_of_tls() -> None:
    silent = TimeoutError("the server did not send its greeting within 7 seconds")
    assert explain(silent, "s", TlsMode.REQUIRED).endswith(
        "; if this port speaks TLS from the start, try --tls implicit"
    )
    assert explain(silent, "s", TlsMode.IMPLICIT).endswith("; --timeout sets the limit")
    assert explain(tls_error("WRONG_VERSION_NUMBER"), "s", TlsMode.REQUIRED) == "s: this port speaks plaintext"


def test_connection_that_ends_in_the_handshake_is_named() -> None:
    line = explain(ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), "s", TlsMode.IMPLICIT)
    assert line == "s: the connection was closed before the end of the TLS handshake"
