"""Make first inputs from the dialogues of the RFCs, the tests and the documentation: `python -m fuzz.seeds`."""

import re
from base64 import b64decode
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from itertools import groupby
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from smtpcore import Bdat, DataChunk
from smtpcore.proxy import Endpoint, ProxyCommand, ProxyHeader, SslClient, SslInfo, Tlv, TlvType
from smtpcore.sasl import MECHANISMS
from tests.adapters.cli import test_sources
from tests.adapters.explain.test_formats import OUTPUTS
from tests.adapters.tls.test_channel_binding import MALFORMED, certificate, value
from tests.conformance.test_dialogs import FILES, Dialogue, parse
from tests.paths import ROOT

from .client import REQUESTS, SEPARATOR
from .server import HEAD
from .user_files import HASH

FOUND = Path(__file__).parent / "found"
"""The inputs that are not versioned. `fuzz/minimise` moves the useful inputs to the corpus."""
MAX_LENGTH = 4096

_AUTH = re.compile(rb"AUTH ([A-Z0-9-]+)(?: (\S+))?\r\n")
_PATH = re.compile(rb"(?:FROM|TO):<([^>]*)>(?: ([^\r\n]+))?\r\n", re.IGNORECASE)


def server_seed(dialogue: Dialogue) -> bytes:
    """Return the client's octets in a dialogue, after choices that configure a suitable server."""
    given = dialogue.header
    bits = 16 | 32 | 64 | (8 if given["protocol"] == ["lmtp"] else 0)
    bits |= 128 if any(turn.tls for turn in dialogue.turns) else 0
    return bytes([bits]) + bytes(HEAD - 1) + b"".join(turn.sent for turn in dialogue.turns)


def client_seed(lines: list[str]) -> bytes:
    """Return the server's octets in a dialogue, for a client that sends the normal steps of a session."""
    groups = groupby((line for line in lines if line[:2] in ("S:", "C:")), lambda line: line[:2])
    flights = [b"".join(line[3:].encode() + b"\r\n" for line in group) for who, group in groups if who == "S:"]
    return b"\0\0" + b"\0\1\1" * 5 + SEPARATOR.join(flights)


def round_trip_seeds() -> dict[str, bytes]:
    """Return sessions of each kind: commands one at a time and pipelined, chunks, AUTH, STARTTLS, and refusals."""
    names = {type(request).__name__: 4 * number for number, request in enumerate(REQUESTS)}
    chunks = [names["Bdat"], 4 * REQUESTS.index(DataChunk(b"abc")), 128 + 4 * REQUESTS.index(Bdat(0, last=True))]
    return {
        "one-by-one": b"\0\xff" + bytes(8) + b"\x81" * 8,
        "pipelined": b"\0\xff" + bytes(8) + b"\x81\1\1\x81\1\x81\x81",
        "chunks": b"\0\0" + bytes(8) + b"\x81\1\x81" + bytes(chunks),
        "auth": b"\0\0" + bytes(8) + bytes([129, 128 + names["Auth"], 128 + names["AuthResponse"]]),
        "starttls": b"\0\0" + bytes(8) + bytes([129, 128 + names["StartTls"], 129, 129]),
        "refused": b"\0\0" + bytes([0, 5, 0, 4, 0, 5, 0, 5]) + b"\x81\1\1\x81\1\x81\x81",
    }


def sasl_seeds(dialogue: Dialogue, lines: list[bytes]) -> dict[str, bytes]:
    """Return the messages of a SASL exchange, as input for each end."""
    sent = b"".join(turn.sent for turn in dialogue.turns)
    begin = _AUTH.search(sent)
    if not begin or begin[1].decode() not in NAMES:
        return {}

    responses = sent[begin.end() :].split(b"\r\n")[: sum(line.startswith(b"334 ") for line in lines)]
    challenges = [line[4:] for line in lines if line.startswith(b"334 ")]
    head = bytes([NAMES.index(begin[1].decode())])
    initial = [] if begin[2] is None else [begin[2]]
    return {
        "client": head + bytes([2 if initial else 0]) + b"\n".join(map(decoded, [*initial, *responses])),
        "server": head + bytes([3 if initial else 1]) + b"\n".join(map(decoded, challenges)),
    }


def decoded(text: bytes) -> bytes:
    """Return decoded base64, or the text itself if it is not base64."""
    try:
        return b64decode(text, validate=True)
    except ValueError:
        return text


NAMES = [row.name for row in MECHANISMS]


def proxy_seeds() -> dict[str, bytes]:
    """Return a PROXY header of each kind."""
    four = Endpoint(ip_address("192.0.2.1"), 1), Endpoint(ip_address("192.0.2.2"), 2)
    six = Endpoint(ip_address("2001:db8::1"), 1), Endpoint(ip_address("2001:db8::2"), 2)
    tls = SslInfo(SslClient.SSL | SslClient.CERT_CONN, 0, version="TLSv1.3", cn="c.example", cipher="A")
    tlvs = (Tlv(TlvType.AUTHORITY, b"s.example"), Tlv(TlvType.UNIQUE_ID, b"id"), Tlv(TlvType.SSL, tls.encode()))
    command = ProxyCommand.PROXY
    return {
        "1-tcp4": ProxyHeader(command, *four).encode(version=1),
        "1-tcp6": ProxyHeader(command, *six).encode(version=1),
        "1-unknown": ProxyHeader(command).encode(version=1),
        "2-tcp4": ProxyHeader(command, *four, tlvs).encode(checksum=True),
        "2-tcp6": ProxyHeader(command, *six).encode(),
        "2-unix": ProxyHeader(command, b"/run/a", b"\0b").encode(),
        "2-unknown": ProxyHeader(command).encode(),
        "2-local": ProxyHeader(ProxyCommand.LOCAL).encode(),
    }


def replies_seed(lines: list[bytes]) -> bytes:
    """Return a seed with one code and its texts, taken from the reply lines of a dialogue.

    The code is that of the first multiline reply, or of the first reply if no reply has several lines.
    """
    several = next((line for line in lines if line[3:4] == b"-"), lines[0])
    code = int(several[:3])
    return bytes([code // 4, code % 4, 0, 0]) + b"\n".join(line[4:] for line in lines if line.startswith(several[:3]))


def certificate_seeds() -> Iterator[bytes]:
    """Yield a certificate with each signature algorithm, and malformed certificates."""
    own = certificate(Ed25519PrivateKey.from_private_bytes(bytes(32)), None)
    identifier = b"\x06\x03\x2b\x65\x70"
    start = own.rindex(identifier) - 2
    yield own
    for oid in SIGNATURES:
        algorithm = value(0x30, value(0x06, bytes.fromhex(oid)))
        fields = own[4:start].replace(b"\x30\x05" + identifier, algorithm, 1)
        yield value(0x30, fields + algorithm + own[start + 7 :])
    yield from MALFORMED.values()


SIGNATURES = ("2a864886f70d010104", "2a864886f70d010105", "2a864886f70d01010b", "2a8648ce3d040301", "2a8648ce3d040304")
"""Identifiers of signature algorithms in DER: RSA with MD5, SHA-1 and SHA-256, ECDSA with SHA-224 and SHA-512."""


def settings_seeds() -> Iterator[str]:
    """Yield the TOML files of the tests and of the documentation."""
    yield test_sources.FILE
    for page in sorted((ROOT / "docs").glob("*.md")):
        yield from re.findall("```toml\n(.*?)```", page.read_text(), re.DOTALL)
    yield from (
        "max_hold_until = 2030-01-01T00:00:00Z\ntimeout = inf\nbare_newlines = 'reject'\nextension = ['DSN']",
        "deliver = {url = 'smtp://127.0.0.1:26?tls=none', xclient = true}\naccept = ['a@b.example', 'c.example']",
        "deliver = ['print:', 'maildir:/tmp/x']\nproxy_protocol = true\nproxy = ['10.0.0.0/8', 'unix']",
        "[[listener]]\nunix = '/tmp/x'\nunix_mode = '660'\n[[listener]]\nport = 24\nlmtp = true\nname = 'b'",
        "auth = 'tim:secret'\nallow_plaintext_auth = true\nauth_mechanisms = ['PLAIN']\nrequire_auth = true",
    )


def header_seeds() -> Iterator[bytes]:
    """Yield headers, each after the name of a client."""
    head = b"Received: from a (b\r\n\t[192.0.2.1]) by c; Thu, 1 Jan 2026 00:00:00 +0000\r\n"
    yield (
        b"c.example\n" + head * 2 + b"Subject: \xc3\xa9\r\n  x \r\nX-A : 1\r\nX-B:\r\nX-C: \xff\r\n\r\nReceived: x\r\n"
    )
    yield b"[127.0.0.1]\n\r\nReceived: x\r\n"
    yield b"()\\\n folded: x\r\n\r\n"
    yield b"\xc3\xa9.example\nno field\r\nA: b\nC: d\r\r\n"
    yield b"a@c.example\nReceived\t:\r\n x\r\n: x\r\na b: x"


def user_file_seeds() -> Iterator[str]:
    """Yield files of users, each after the name of a user to be added."""
    yield f"ann\n# people\n\ntim:{HASH}\r\ntom:{HASH}\n"
    yield f"a@s.example\n\ufefftim:{HASH}"
    yield f"a b\ntim:{HASH}\ntim:{HASH}\n"
    yield "a:b\ntim:secret\n"
    yield "\u2028\ntim:SCRAM-SHA-256$4096:c2FsdA==$x:y\n"


def write(target: str, name: str, data: bytes) -> None:
    """Write a seed, unless it is longer than the inputs that the fuzzer makes."""
    if len(data) > MAX_LENGTH:
        return

    directory = FOUND / target
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_bytes(data)


def write_all(target: str, head: bytes, seeds: Iterable[bytes | str]) -> None:
    """Write seeds, each after the choices of the target."""
    for number, seed in enumerate(seeds):
        write(target, f"seed-{number:03}", head + (seed.encode() if isinstance(seed, str) else seed))


def main() -> None:
    """Write all seeds."""
    texts: set[tuple[bytes, bytes]] = set()
    for path in FILES:
        dialogue = parse(path)
        said = [line[3:].encode() for line in path.read_text("ascii").splitlines() if line.startswith("S: ")]
        write("server", path.stem, server_seed(dialogue))
        write("transcripts", path.stem, server_seed(dialogue))
        write("recordings", path.stem, b"\0\0" + path.read_bytes())
        write("client", path.stem, client_seed(path.read_text("ascii").splitlines()))
        write("replies", path.stem, replies_seed(said))
        for role, seed in sasl_seeds(dialogue, said).items():
            write("sasl", f"{path.stem}-{role}", seed)
        for turn in dialogue.turns:
            texts |= {(found[1], found[2] or b"") for found in _PATH.finditer(turn.sent)}

    for number, text in enumerate(sorted({text for text, _ in texts})):
        write("addresses", f"seed-{number:03}", text)
    for number, text in enumerate(sorted({text for _, text in texts})):
        write("parameters", f"seed-{number:03}", text)
    for name, seed in round_trip_seeds().items():
        write("round_trip", name, seed)
    for name, header in proxy_seeds().items():
        write("proxy", name, b"\0\x80" + header + b"EHLO c.example\r\n")
    write_all("recordings", b"\0\0", OUTPUTS.values())
    write_all("certificates", b"\x80", certificate_seeds())
    write_all("settings", b"\0", settings_seeds())
    write_all("headers", b"\0\x80\0\0\1\1", header_seeds())
    write_all("user_files", b"\0", user_file_seeds())


if __name__ == "__main__":
    main()
