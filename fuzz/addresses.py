"""Any text as an address is either refused as documented, or arrives unchanged and with the same meaning."""

import re
from dataclasses import replace

from smtpcore import Ehlo, Mail, Mailbox, Params, Path, Rcpt, Tolerance

from .harness import ALL, Draw, heard, made

LENIENT = replace(ALL, tolerance=Tolerance.LENIENT)

find_surrogate = re.compile("[\ud800-\udfff]").search

UTF8 = Params({"SMTPUTF8": True})


def quoted(text: str) -> str:
    """Return `text` as a quoted string (RFC 5321 4.1.2)."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def check_mailbox(mailbox: Mailbox) -> None:
    """Check that another spelling of a mailbox is equal to it."""
    again = Mailbox(f"{quoted(mailbox.local_part)}@{mailbox.domain}")
    assert again == mailbox
    assert hash(again) == hash(mailbox)
    assert (mailbox.address is not None) == mailbox.domain.startswith("[")


def check_path(path: Path) -> None:
    """Check that a lenient server receives a path unchanged, in MAIL and in RCPT."""
    assert bool(path) == bool(path.text)
    assert path.text.endswith(path.address)
    assert all(host and "@" not in host for host in path.source_route)
    if path.mailbox:
        assert Path(path.address) == path
        check_mailbox(path.mailbox)

    mail = heard(f"MAIL FROM:<{path}> SMTPUTF8", LENIENT)
    assert mail == Mail(path, UTF8)
    assert isinstance(mail, Mail)
    assert mail.reverse_path.text == path.text
    assert (heard(f"MAIL FROM:<{path}> SMTPUTF8") == mail) == (not mail.deviations)
    if path:
        rcpt = heard(str(Rcpt(path)), LENIENT)
        assert rcpt == Rcpt(path)
        assert isinstance(rcpt, Rcpt)
        assert rcpt.forward_path.text == path.text


def test_one_input(data: bytes) -> None:
    """Use the input as a path, as a mailbox, and as the domain of EHLO."""
    text = Draw(data).text()
    path, mailbox, hello = made(Path, text), made(Mailbox, text), made(Ehlo, text)
    assert not set(text) & set("\r\n\0\t\x7f") or (path is None and not mailbox and not hello)
    if path is not None:
        check_path(path)
    if mailbox:
        check_mailbox(mailbox)
    if hello:
        assert heard(str(hello), LENIENT) == hello
    elif text == text.strip(" \t") and not set(text) & set("\r\n") and not find_surrogate(text):
        # A lenient server reads a name that is not UTF-8 as Latin-1.
        assert not isinstance(heard(f"EHLO {text}", LENIENT), Ehlo)
