"""Any octets from a proxy give the same header or error however they are segmented, and each header can be encoded."""

from collections.abc import Iterable

from smtpcore import NEED_DATA, LocalProtocolError, RemoteProtocolError
from smtpcore.proxy import MAX_LENGTH, Endpoint, ProxyCommand, ProxyHeader, ProxyReader

from .harness import Draw, cuts

LONGEST = 16 + MAX_LENGTH
VERSIONS = ((1, 2), (1,), (2,))


def read(segments: Iterable[bytes], versions: tuple[int, ...]) -> tuple[ProxyHeader | str, bytes]:
    """Return the header or the error text, and the octets after the header."""
    reader = ProxyReader(versions)
    held = 0
    for segment in [*segments, b""]:
        reader.receive_data(segment)
        held += len(segment)
        try:
            header = reader.next_header()
        except RemoteProtocolError as exc:
            return str(exc), reader.trailing_data

        assert header is not NEED_DATA or held < LONGEST
        assert header is not NEED_DATA or segment

    assert isinstance(header, ProxyHeader)
    return header, reader.trailing_data


def check(header: ProxyHeader) -> None:
    """Check that a header can be encoded and parsed again, if the version of the protocol can express it."""
    for version, checksum in ((2, False), (2, True), (1, False)):
        try:
            octets = header.encode(version=version, checksum=checksum)
        except LocalProtocolError:
            assert version == 1
            continue

        written, behind = read([octets + b"EHLO"], (version,))
        assert behind == b"EHLO"
        assert written == header or version == 1
        assert isinstance(written, ProxyHeader)
        if isinstance(header.source, Endpoint):
            assert (written.source, written.destination) == (header.source, header.destination)
        if header.command is ProxyCommand.LOCAL:
            assert written.source is None


def test_one_input(data: bytes) -> None:
    """Read a header three times, with three different segmentations."""
    draw = Draw(data)
    versions = draw.choose(VERSIONS)
    place = draw.byte()

    whole, *others = (read(segments, versions) for segments in cuts(draw.rest(), place))
    assert others == [whole, whole]
    if isinstance(whole[0], ProxyHeader):
        check(whole[0])
        _ = whole[0].authority, whole[0].unique_id, whole[0].ssl
