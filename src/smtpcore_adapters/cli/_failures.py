"""The errors of a client in words, and the exit status of `smtpcore send`."""

import os
import ssl
from collections.abc import Mapping
from socket import EAI_AGAIN, gaierror
from typing import Final

from smtpcore import LocalProtocolError, ProtocolError

from .._printable import printable
from ..client._client import Unsendable
from ..client._options import TlsMode
from ..client._results import Refused, SendResult
from ..client._setup import PLAINTEXT

SOME = 1
"""The exit status for a message that was accepted for some of its recipients."""
USAGE = 2
"""The exit status for arguments that cannot be used."""
UNAVAILABLE = 69
"""The exit status for a permanent failure: EX_UNAVAILABLE of sysexits(3)."""
TEMPORARY = 75
"""The exit status for a failure after which another attempt may succeed: EX_TEMPFAIL of sysexits(3)."""


def status_of_result(result: SendResult) -> int:
    """Return the exit status for a result."""
    if not result.refused:
        return 0
    if result.accepted:
        return SOME

    return TEMPORARY if result.deferred else UNAVAILABLE


def status_of_error(error: OSError | ProtocolError) -> int:
    """Return the exit status for an error: temporary, permanent, or a usage error."""
    if isinstance(error, Refused | Unsendable):
        return TEMPORARY if error.reply and error.reply.code < 500 else UNAVAILABLE
    if isinstance(error, LocalProtocolError):
        return USAGE
    if isinstance(error, gaierror):
        return TEMPORARY if error.errno == EAI_AGAIN else UNAVAILABLE

    is_permanent = isinstance(error, ProtocolError | ssl.SSLError | FileNotFoundError)
    is_permanent &= not isinstance(error, ssl.SSLEOFError)  # the connection was lost in the handshake
    return UNAVAILABLE if is_permanent else TEMPORARY


def explain(error: OSError | ProtocolError, server: str, tls: TlsMode) -> str:
    """Return a line that names the server and the cause, and says what to try."""
    text = printable(_words(error).replace("\n", " "))
    hint = _hint(error, tls)
    return f"{text if text.startswith(server) else f'{server}: {text}'}{f'; {hint}' if hint else ''}"


def _words(error: OSError | ProtocolError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not valid: {_CERTIFICATE.get(error.verify_code, error.verify_message)}"
    if isinstance(error, ssl.SSLEOFError):
        return "the connection was closed before the end of the TLS handshake"
    if isinstance(error, ssl.SSLError):
        return _TLS.get(error.reason or "", str(error))
    if isinstance(error, OSError) and error.errno:
        return error.strerror or os.strerror(error.errno)

    return str(error)


_CERTIFICATE: Final[Mapping[int, str]] = {
    # The codes of X509_STORE_CTX_get_error(3).
    9: "it is not valid yet",
    10: "it has expired",
    18: "it is self-signed, so no known authority vouches for it",
    19: "its authority is unknown on this machine",
    20: "its authority is unknown on this machine",
    21: "its authority is unknown on this machine, or the server does not send the whole chain",
    62: "it is for another name",
    64: "it is for another IP address",
}
_PLAINTEXT: Final = "this port speaks plaintext"
_TLS: Final[Mapping[str, str]] = {
    **dict.fromkeys(PLAINTEXT, _PLAINTEXT),
    "UNSUPPORTED_PROTOCOL": "this machine and the server have no version of TLS in common",
    "TLSV1_ALERT_PROTOCOL_VERSION": "this machine and the server have no version of TLS in common",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "this machine and the server have no cipher in common",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the server requires a client certificate",
}


def _hint(error: OSError | ProtocolError, tls: TlsMode) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "try the name in the certificate as HOST" if error.verify_code in (62, 64) else _TRUST
    if isinstance(error, ssl.SSLEOFError):  # such an error may have no reason
        return ""
    if isinstance(error, ssl.SSLError):
        return "try --tls starttls" if _TLS.get(error.reason or "") == _PLAINTEXT and tls is TlsMode.IMPLICIT else ""
    if isinstance(error, TimeoutError) and "greeting" in str(error) and tls is not TlsMode.IMPLICIT:
        return "if this port speaks TLS from the start, try --tls implicit"
    if isinstance(error, TimeoutError) and not error.errno:
        return "--timeout sets the limit"

    return ""


_TRUST: Final = "--tls-ca trusts an authority, and --insecure accepts any certificate"
