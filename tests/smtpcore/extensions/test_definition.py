"""Extensions and parameters that a program defines."""

from collections.abc import Mapping

from smtpcore import (
    EXTENSIONS,
    Connection,
    Extension,
    Parameter,
    Reply,
)
from smtpcore._dialects import offered_extensions

from ...helpers import CONFIG, READY, drive, replies


def test_custom_extension_needs_only_a_keyword() -> None:
    extension = Extension(keyword="XFOO")

    assert extension.announce(CONFIG) == "XFOO"
    assert offered_extensions([extension], CONFIG, tls=True) == (extension,)
    assert (extension.mail, extension.rcpt, extension.verbs) == ((), (), frozenset())


def test_objection_is_not_called_for_commands_without_parameters() -> None:
    def object_to(terms: object, params: Mapping[str, object]) -> Reply:
        return Reply(555, "Never", enhanced="5.5.4")

    own = Extension(
        keyword="XOWN", mail=(Parameter(keyword="XOWN", kind=str, parse=str, octets=9),), objection=object_to
    )
    conn = Connection(CONFIG, extensions=(*EXTENSIONS, own))
    _, output = drive(conn, [READY, b"MAIL FROM:<> XOWN=1\r\n", b"MAIL FROM:<>\r\n"])

    assert [code for code, _ in replies(output)][-2:] == [555, 250]
