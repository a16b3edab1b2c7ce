"""The PROXY protocol of HAProxy, versions 1 and 2: the client's address, as reported by a proxy."""

# The header precedes the first octet of SMTP or TLS and replaces the addresses of the socket. The header is never
# optional: a port requires the header from every peer or from none, only trusted proxies may reach a port that requires
# it, and the greeting waits for the complete header. In this file, "PROXY 2.1" is section 2.1 of proxy-protocol.txt.
#
# `_BEGINNINGS` lists all valid first octets. Other octets are refused at once, so that a plain SMTP client on the wrong
# port fails at its first letter and not after a timeout.
#
# The checksum covers octets, not their meaning. So it is verified when a header is read, computed when a header is
# written, and not part of `ProxyHeader`.
#
# SMTP only runs over streams. But 2.2 requires a receiver to treat a valid transport that it does not support as
# UNSPEC, so a header for datagrams is accepted, with unknown endpoints. The address family alone determines the length
# of the addresses. UNSPEC has no addresses: the TLVs follow at once, as HAProxy sends them.

import re
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum, IntFlag
from functools import reduce
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from ._errors import LocalProtocolError, RemoteProtocolError
from ._events import NEED_DATA, Signal
from ._fields import check_argument, check_fields, check_octets
from ._help import show_texts

MAX_LINE = 107  # PROXY 2.1: "PROXY UNKNOWN" with the longest addresses and ports, CRLF included
MAX_LENGTH = 4096  # enough for a client's certificate; 2.2 would let any peer make us buffer 65,535 octets
MAX_UNIQUE_ID = 128  # PROXY 2.2.5
MAX_UNIX_PATH = 108  # PROXY 2.2

_MAX_UINT16 = 0xFFFF
_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_LOCAL, _PROXY = 0x20, 0x21  # the upper four bits are the version, the lower four the command
_UNSPEC, _INET, _INET6, _UNIX = range(4)
_STREAM, _TRANSPORTS = 1, range(3)  # UNSPEC, STREAM, DGRAM
_ADDRESSES = tuple(map(struct.Struct, ("", ">4s4sHH", ">16s16sHH", ">108s108s")))  # the index is the address family
_FIXED = struct.Struct(">12sBBH")
_TLV = struct.Struct(">BH")
_SSL = struct.Struct(">BI")

# The valid first octets of a header, by version. The address family of a LOCAL header is ignored (PROXY 2.2).
_BEGINNINGS: Mapping[int, tuple[bytes, ...]] = {
    1: (b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN ", b"PROXY UNKNOWN\r"),
    2: (
        _SIGNATURE + bytes((_LOCAL,)),
        *(_SIGNATURE + bytes((_PROXY, kind * 16 + how)) for kind in range(len(_ADDRESSES)) for how in _TRANSPORTS),
    ),
}
_match_tcp = re.compile("PROXY TCP([46]) ([^ ]+) ([^ ]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})\r\n").fullmatch
_find_newline = re.compile(rb"\r\n|\n|\r(?=.)", re.DOTALL).search


class ProxyCommand(Enum):
    """The reason why the proxy connected."""

    LOCAL = _LOCAL
    """A connection of the proxy itself, such as a health check. The socket's own addresses apply."""
    PROXY = _PROXY
    """A connection on behalf of a client."""


class TlvType(IntEnum):
    """The registered types of TLVs (PROXY 2.2). TLVs of the types `SSL_...` are nested in a TLV of type `SSL`."""

    ALPN = 0x01
    """The application protocol that the client negotiated, such as `b"smtp"`."""
    AUTHORITY = 0x02
    """The host name that the client requested, for instance by SNI."""
    CRC32C = 0x03
    """The checksum of the header."""
    NOOP = 0x04
    """Padding."""
    UNIQUE_ID = 0x05
    """An identifier of the connection, for logs."""
    SSL = 0x20
    """The client's TLS: `SslInfo`, with nested TLVs."""
    SSL_VERSION = 0x21
    """The TLS version as text."""
    SSL_CN = 0x22
    """The common name of the client's certificate, in UTF-8."""
    SSL_CIPHER = 0x23
    """The name of the cipher."""
    SSL_SIG_ALG = 0x24
    """The algorithm with which the proxy's certificate is signed."""
    SSL_KEY_ALG = 0x25
    """The algorithm of the key in the proxy's certificate."""
    SSL_GROUP = 0x26
    """The key exchange group."""
    SSL_SIG_SCHEME = 0x27
    """The signature scheme of the handshake."""
    SSL_CLIENT_CERT = 0x28
    """The client's certificate in DER."""
    NETNS = 0x30
    """The network namespace of the connection."""


class SslClient(IntFlag):
    """Properties of the client's connection to the proxy (PROXY 2.2.6)."""

    SSL = 0x01
    """The client used TLS."""
    CERT_CONN = 0x02
    """The client presented a certificate in this connection."""
    CERT_SESS = 0x04
    """The client presented a certificate at least once in this TLS session."""


_TLV_TYPES: Mapping[int, TlvType] = {member.value: member for member in TlvType}
_SSL_TEXTS: Mapping[int, tuple[str, str]] = {
    TlvType.SSL_VERSION: ("version", "ascii"),
    TlvType.SSL_CN: ("cn", "utf-8"),
    TlvType.SSL_CIPHER: ("cipher", "ascii"),
    TlvType.SSL_SIG_ALG: ("sig_alg", "ascii"),
    TlvType.SSL_KEY_ALG: ("key_alg", "ascii"),
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a TCP connection. Raises `LocalProtocolError` for an impossible port or an address with a zone."""

    address: IPv4Address | IPv6Address
    """The IP address."""
    port: int
    """The TCP port."""

    def __post_init__(self) -> None:
        check_fields(self, TypeError)
        if not 0 <= self.port <= _MAX_UINT16:
            raise LocalProtocolError(f"port {self.port} is not between 0 and {_MAX_UINT16}")
        if isinstance(self.address, IPv6Address) and self.address.scope_id is not None:
            raise LocalProtocolError(f"{self.address} has a zone, which is meaningless on another host: leave it out")


@dataclass(frozen=True, slots=True)
class Tlv:
    """A type-length-value item of version 2. Raises `LocalProtocolError` for a type or value that is out of range."""

    type: int
    """A `TlvType`, or another number from 0 to 255."""
    value: bytes
    """The value, at most 65,535 octets."""

    def __post_init__(self) -> None:
        check_fields(self, TypeError)
        if not 0 <= self.type <= 0xFF or len(self.value) > _MAX_UINT16:
            raise LocalProtocolError(f"a TLV of type {self.type} with {len(self.value)} octets is out of range")

    def encode(self) -> bytes:
        """Return the octets for the wire (PROXY 2.2)."""
        return _TLV.pack(self.type, len(self.value)) + self.value


@dataclass(frozen=True, slots=True)
class SslInfo:
    """The TLS connection between client and proxy (PROXY 2.2.6).

    `Tlv(TlvType.SSL, info.encode())` is the TLV to put into a header. Other sub-TLVs are left out here. Raises
    `LocalProtocolError` for numbers out of range, and for text that is not ASCII (for `cn`: not UTF-8).
    """

    client: SslClient
    """Properties of the client's connection to the proxy."""
    verify: int
    """0 if the client's certificate was verified. Use `is_verified`, which also checks that there was a certificate."""
    version: str | None = None
    """The TLS version, such as `"TLSv1.3"`."""
    cn: str | None = None
    """The Common Name of the client's certificate, to be trusted only if `is_verified` is true."""
    cipher: str | None = None
    """The cipher, such as `"ECDHE-RSA-AES128-GCM-SHA256"`."""
    sig_alg: str | None = None
    """The signature algorithm of the proxy's certificate, such as `"RSA-SHA256"`."""
    key_alg: str | None = None
    """The key algorithm of the proxy's certificate, such as `"RSA2048"`."""

    def __post_init__(self) -> None:
        check_fields(self, TypeError)
        try:
            self.encode()
        except (ValueError, struct.error) as exc:
            raise LocalProtocolError(f"{self} cannot be encoded: {exc}") from exc

    @property
    def is_verified(self) -> bool:
        """Whether the client presented a certificate and the proxy verified it."""
        return self.verify == 0 and bool(self.client & (SslClient.CERT_CONN | SslClient.CERT_SESS))

    def encode(self) -> bytes:
        """Return the value for a TLV of type `SSL`."""
        texts = ((number, getattr(self, field), encoding) for number, (field, encoding) in _SSL_TEXTS.items())
        tlvs = (Tlv(number, text.encode(encoding)).encode() for number, text, encoding in texts if text is not None)
        return _SSL.pack(self.client, self.verify) + b"".join(tlvs)


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """The information about a connection that a proxy sends.

    For a TCP connection, `source` and `destination` are `Endpoint`s of one address family. For a Unix socket, each is a
    path, or None for a socket without a name, which is usual for clients. If both are None, the addresses of the socket
    itself apply.

    Raises `LocalProtocolError` for ends that do not match, for a LOCAL header with ends or TLVs, for a checksum among
    the TLVs (`encode` adds the checksum), and for a TLV whose value does not match its type.
    """

    command: ProxyCommand
    """The reason why the proxy connected."""
    source: Endpoint | bytes | None = None
    """The client's address. The path of an abstract Unix socket begins with NUL."""
    destination: Endpoint | bytes | None = None
    """The address that the client connected to."""
    tlvs: tuple[Tlv, ...] = ()
    """Further information, in the order of the wire. If a type occurs more than once, the first TLV applies."""

    def __post_init__(self) -> None:
        check_fields(self, TypeError)
        ends = self.source, self.destination
        if self.command is ProxyCommand.LOCAL and (ends != (None, None) or self.tlvs):
            raise LocalProtocolError("a LOCAL header cannot have endpoints or TLVs: receivers ignore them")
        if self.find(TlvType.CRC32C) is not None:
            raise LocalProtocolError("leave out the checksum TLV: encode(checksum=True) adds it")
        if len(self.unique_id or b"") > MAX_UNIQUE_ID:
            raise LocalProtocolError(f"a unique id has at most {MAX_UNIQUE_ID} octets")
        if len({end.address.version if isinstance(end, Endpoint) else None for end in ends}) != 1:
            raise LocalProtocolError(f"{ends} are not of one family: map IPv4 into IPv6, as ::ffff:192.0.2.1")

        for end in ends:
            if isinstance(end, bytes) and (len(end) > MAX_UNIX_PATH or _parse_path(end) != end):
                raise LocalProtocolError(f"{end!r} is not a Unix socket path: at most {MAX_UNIX_PATH} octets, no NUL")

        try:
            _ = self.authority, self.ssl
        except ValueError as exc:
            raise LocalProtocolError(f"the value of a TLV does not match its type: {exc}") from exc

    @property
    def authority(self) -> str | None:
        """The host name that the client requested, for instance by SNI (PROXY 2.2.2). The name may be any text."""
        value = self.find(TlvType.AUTHORITY)
        return None if value is None else value.decode()

    @property
    def unique_id(self) -> bytes | None:
        """The proxy's id of the connection (PROXY 2.2.5)."""
        return self.find(TlvType.UNIQUE_ID)

    @property
    def ssl(self) -> SslInfo | None:
        """The TLS connection between client and proxy (PROXY 2.2.6)."""
        value = self.find(TlvType.SSL)
        return None if value is None else _parse_ssl(value)

    def find(self, type: int) -> bytes | None:
        """Return the value of the first TLV of `type`, or None."""
        return next((tlv.value for tlv in self.tlvs if tlv.type == type), None)

    def encode(self, *, version: int = 2, checksum: bool = False) -> bytes:
        """Return the octets for the wire, to be sent first and in one piece. `checksum` adds a CRC32c.

        Version 1 has no LOCAL command: LOCAL becomes `PROXY UNKNOWN`, and so do unknown endpoints.
        Raises `LocalProtocolError` if the version cannot express this header, and for TLVs that are too long in total.
        """
        if version == 1:
            return self._encode_line(checksum)
        if version != 2:
            raise LocalProtocolError(f"the PROXY protocol has no version {version}: use 1 or 2")

        family, block = self._encode_ends()
        block += b"".join(tlv.encode() for tlv in self.tlvs)
        if checksum:
            block += Tlv(TlvType.CRC32C, bytes(4)).encode()
        if len(block) > _MAX_UINT16:
            raise LocalProtocolError(f"{len(block)} octets of addresses and TLVs are more than {_MAX_UINT16}")

        kind = family * 16 + _STREAM if family else _UNSPEC
        header = _FIXED.pack(_SIGNATURE, self.command.value, kind, len(block)) + block
        return header[:-4] + crc32c(header).to_bytes(4, "big") if checksum else header

    def _encode_line(self, checksum: bool) -> bytes:
        source, destination = self.source, self.destination
        if self.tlvs or checksum or isinstance(source or destination, bytes):
            raise LocalProtocolError("version 1 has no Unix sockets, no TLVs and no checksum: use version 2")
        if not isinstance(source, Endpoint) or not isinstance(destination, Endpoint):
            return b"PROXY UNKNOWN\r\n"

        addresses = f"TCP{source.address.version} {source.address} {destination.address}"
        return f"PROXY {addresses} {source.port} {destination.port}\r\n".encode()

    def _encode_ends(self) -> tuple[int, bytes]:
        source, destination = self.source, self.destination
        if isinstance(source, Endpoint) and isinstance(destination, Endpoint):
            family = _INET if source.address.version == 4 else _INET6
            packed = source.address.packed, destination.address.packed
            return family, _ADDRESSES[family].pack(*packed, source.port, destination.port)
        if source or destination:
            return _UNIX, _ADDRESSES[_UNIX].pack(source or b"", destination or b"")

        return _UNSPEC, b""


class ProxyReader:
    """Parses the header at the start of a connection. Afterwards `trailing_data` has the first octets of SMTP or TLS.

    `max_length` limits the octets of addresses and TLVs in version 2.
    Raises `LocalProtocolError` for `versions` other than 1 and 2, and for a `max_length` below 216 or above 65,535.
    """

    def __init__(self, versions: Collection[int] = (1, 2), *, max_length: int = MAX_LENGTH) -> None:
        check_argument("versions", versions, Collection[int])
        check_argument("max_length", max_length, int)
        if not versions or not _BEGINNINGS.keys() >= set(versions):
            raise LocalProtocolError(f"versions is {versions}, but must be 1, 2 or both")
        if not _ADDRESSES[_UNIX].size <= max_length <= _MAX_UINT16:
            raise LocalProtocolError(f"max_length {max_length} should be {_ADDRESSES[_UNIX].size} to {_MAX_UINT16}")

        self._beginnings = [beginning for version in versions for beginning in _BEGINNINGS[version]]
        self._max_length = max_length
        self._data = bytearray()
        self._end_of_stream = False
        self._failure = ""
        self._header: ProxyHeader | None = None

    @property
    def trailing_data(self) -> bytes:
        """The octets received after the header. Empty until the header is complete."""
        return bytes(self._data) if self._header else b""

    def receive_data(self, data: bytes | bytearray | memoryview) -> None:
        """Pass in received octets. `b""` is the end of the peer's stream.

        Call this method only after `next_header` has returned `NEED_DATA`, so that the buffer stays small.
        """
        check_octets(data)
        if not data:
            self._end_of_stream = True
        elif not self._end_of_stream and not self._failure:
            self._data += data

    def next_header(self) -> ProxyHeader | Literal[Signal.NEED_DATA]:
        """Return the header if it is complete, also on later calls. Otherwise return `NEED_DATA`.

        Raises `RemoteProtocolError` for octets that are not a valid header, and if the stream ends before the header
        does. Close the connection then, without a reply.
        """
        if self._failure:
            raise RemoteProtocolError(self._failure)

        try:
            self._header = self._header or self._take_header()
        except (LocalProtocolError, ValueError) as exc:
            raise self._broken(f"the peer sent no valid PROXY header: {exc}") from exc

        if not self._header and self._end_of_stream:
            raise self._broken("the peer closed the connection before its PROXY header was complete")
        return self._header or NEED_DATA

    def _broken(self, failure: str) -> RemoteProtocolError:
        self._failure = failure
        self._data.clear()
        return RemoteProtocolError(failure)

    def _take_header(self) -> ProxyHeader | None:
        size = self._measure()
        if size is None or size > len(self._data):
            return None

        octets = bytes(self._data[:size])
        del self._data[:size]
        return _parse_block(octets) if octets.startswith(_SIGNATURE) else _parse_line(octets)

    def _measure(self) -> int | None:
        if not any(map(self._data.startswith, self._beginnings)):
            self._check_beginning(bytes(self._data[: _FIXED.size]))
            return None
        if not self._data.startswith(_SIGNATURE):
            return _measure_line(self._data[:MAX_LINE])
        if len(self._data) < _FIXED.size:
            return None

        kind: int
        length: int
        _, command, kind, length = _FIXED.unpack_from(self._data)
        if length > self._max_length:
            raise ValueError(f"{length} octets of addresses and TLVs are more than {self._max_length}")
        if command == _PROXY and length < _ADDRESSES[kind >> 4].size:
            raise ValueError(f"{length} octets cannot be addresses of family {kind >> 4}")

        return _FIXED.size + length

    def _check_beginning(self, head: bytes) -> None:
        for size in range(len(head) + 1):
            if not any(beginning.startswith(head[:size]) for beginning in self._beginnings):
                raise ValueError(f"no header begins with {head[:size]!r}")


def crc32c(data: bytes) -> int:
    """Return the checksum CRC32c of `data` (RFC 4960 appendix B)."""
    crc = 0xFFFF_FFFF
    for octet in data:
        crc = crc >> 8 ^ _CRC32C[(crc ^ octet) & 0xFF]
    return crc ^ 0xFFFF_FFFF


# The remainder of every octet when divided by the Castagnoli polynomial, bits reversed.
_CRC32C = tuple(reduce(lambda crc, _: crc >> 1 ^ 0x82F6_3B78 * (crc & 1), range(8), octet) for octet in range(256))


def _measure_line(window: bytearray) -> int | None:
    newline = _find_newline(window)
    if newline and newline[0] != b"\r\n":
        raise ValueError("the line has a bare CR or LF")
    if not newline and len(window) == MAX_LINE:
        raise ValueError(f"the line has more than {MAX_LINE} octets")

    return newline.end() if newline else None


def _parse_line(line: bytes) -> ProxyHeader:
    if line.startswith(b"PROXY UNKNOWN"):
        # PROXY 2.1: the receiver must ignore anything presented before the CRLF.
        return ProxyHeader(ProxyCommand.PROXY)

    fields = _match_tcp(line.decode("ascii"))
    if not fields:
        raise ValueError("the line does not have two addresses and two ports, each after a single space")

    family, source, destination, source_port, destination_port = fields.groups()
    # HAProxy writes a mapped address with dots, as `inet_ntop` does, although 2.1 does not mention this form.
    parse = IPv4Address if family == "4" else IPv6Address
    ends = Endpoint(parse(source), int(source_port)), Endpoint(parse(destination), int(destination_port))
    return ProxyHeader(ProxyCommand.PROXY, *ends)


def _parse_block(header: bytes) -> ProxyHeader:
    kind: int
    _, command, kind, _ = _FIXED.unpack_from(header)
    if command == _LOCAL:
        # PROXY 2.2: the receiver must discard the block, so the checksum in the block need not be verified.
        return ProxyHeader(ProxyCommand.LOCAL)

    family, transport = divmod(kind, 16)
    start = _FIXED.size + _ADDRESSES[family].size
    tlvs = _parse_tlvs(header[start:])
    _check_checksum(header[:start], tlvs)
    ends = _parse_ends(family, header[_FIXED.size :]) if transport == _STREAM else (None, None)
    return ProxyHeader(ProxyCommand.PROXY, *ends, tuple(tlv for tlv in tlvs if tlv.type != TlvType.CRC32C))


def _check_checksum(start: bytes, tlvs: list[Tlv]) -> None:
    found = [tlv.value for tlv in tlvs if tlv.type == TlvType.CRC32C]
    if not found:
        return

    # PROXY 2.2.3: the checksum covers the whole header, with zeros in place of the checksum. A second one is an error.
    zeroed = (Tlv(tlv.type, bytes(4)) if tlv.type == TlvType.CRC32C else tlv for tlv in tlvs)
    if found != [crc32c(start + b"".join(tlv.encode() for tlv in zeroed)).to_bytes(4, "big")]:
        raise ValueError("the checksum is wrong")


def _parse_ends(family: int, block: bytes) -> tuple[Endpoint | bytes | None, Endpoint | bytes | None]:
    if family == _UNSPEC:
        return None, None

    source, destination, *ports = _ADDRESSES[family].unpack_from(block)
    if family == _UNIX:
        return _parse_path(source), _parse_path(destination)

    parse = IPv4Address if family == _INET else IPv6Address
    return Endpoint(parse(source), ports[0]), Endpoint(parse(destination), ports[1])


def _parse_path(padded: bytes) -> bytes | None:
    # An abstract path may contain NULs. Any other path ends at the first NUL. An unnamed socket has only NULs.
    path = padded.rstrip(b"\0") if padded.startswith(b"\0") else padded.partition(b"\0")[0]
    return path or None


def _parse_ssl(value: bytes) -> SslInfo:
    if len(value) < _SSL.size:
        raise ValueError(f"{value!r} is too short for information about TLS")

    client, verify = _SSL.unpack_from(value)
    texts: dict[str, str] = {}
    for tlv in reversed(_parse_tlvs(value[_SSL.size :])):  # reversed, so that the first TLV of a type applies
        if tlv.type in _SSL_TEXTS:
            field, encoding = _SSL_TEXTS[tlv.type]
            texts[field] = tlv.value.decode(encoding)
    return SslInfo(SslClient(client), verify, **texts)


def _parse_tlvs(data: bytes) -> list[Tlv]:
    tlvs: list[Tlv] = []
    end = 0
    while end < len(data):
        number, length = _TLV.unpack(data[end : end + _TLV.size].ljust(_TLV.size, b"\xff"))
        start = end + _TLV.size
        end = start + length
        if end > len(data):
            raise ValueError(f"a TLV of type {number:#04x} extends beyond the end of the header")

        tlvs.append(Tlv(_TLV_TYPES.get(number, number), data[start:end]))
    return tlvs


show_texts(globals())
