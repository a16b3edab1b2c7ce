"""A-labels, and the name of the client in EHLO."""

import sys

import pytest

from smtpcore import LocalProtocolError, Path
from smtpcore_adapters import Address
from smtpcore_adapters.client._domains import ehlo_name, host_in_ascii, in_ascii, path_in_ascii
from tests.adapters.playbook import new_client
from tests.playbook import GREETING, offer


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("example.org", "example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),  # IDNA 2003 would make it strasse.example
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
    ],
)
def test_domain_has_a_labels(domain: str, expected: str) -> None:
    assert in_ascii(domain) == expected
    assert host_in_ascii(domain) == expected


def test_invalid_international_domain_is_an_error() -> None:
    with pytest.raises(LocalProtocolError, match="is not a domain"):
        in_ascii("-ü-.example")
    assert host_in_ascii("-ü-.example") == "-ü-.example"


def test_error_without_idna_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "idna", None)
    with pytest.raises(LocalProtocolError, match=r"pip install 'smtpcore\[idna\]'"):
        in_ascii("bücher.example")
    assert in_ascii("example.org") == "example.org"
    assert host_in_ascii("bücher.example") == "bücher.example"  # the resolver decides


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a@bücher.example", "a@xn--bcher-kva.example"),
        ('"a@b"@bücher.example', '"a@b"@xn--bcher-kva.example'),
        ("ä@bücher.example", "ä@bücher.example"),
        ("a@example.org", "a@example.org"),
        ("Postmaster", "Postmaster"),
        ("", ""),
    ],
)
def test_path_with_an_ascii_local_part_has_a_labels(path: str, expected: str) -> None:
    assert path_in_ascii(Path(path)).text == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("mx.example.org", "mx.example.org"),
        ("mx.example.org.", "mx.example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("192.0.2.1", "[192.0.2.1]"),
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("2001:db8::1", "[IPv6:2001:db8::1]"),
        ("[2001:db8::1]", "[IPv6:2001:db8::1]"),
        ("[IPv6:2001:DB8::1]", "[IPv6:2001:db8::1]"),
        ("fe80::1%eth0", "[IPv6:fe80::1]"),
        ("::ffff:192.0.2.1", "[192.0.2.1]"),
        ("localhost", "localhost"),
    ],
)
def test_hostname_has_the_form_of_ehlo(given: str, expected: str) -> None:
    assert ehlo_name(given, None) == expected
    book = new_client(hostname=given).send(GREETING, offer()).connect()
    assert book.sent[0] == f"EHLO {expected}\r\n".encode()


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        (Address("192.0.2.1", 1), "[192.0.2.1]"),
        (Address("fe80::1%eth0", 1), "[IPv6:fe80::1]"),
        (Address("/run/client"), "localhost"),
        (None, "localhost"),
    ],
)
def test_client_without_a_domain_uses_its_address(
    local: Address | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.node", lambda: "box")
    assert ehlo_name(None, local) == expected
