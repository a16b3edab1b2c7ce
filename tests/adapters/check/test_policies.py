"""Servers with a policy: a check is inconclusive, and does not fail, if a policy prevents it."""

import json
from itertools import chain, repeat

import pytest

from smtpcore import Ehlo, Helo, Reply
from smtpcore_adapters.check import CHECKS, CannotCheck, Finding, Outcome, choose, run_checks
from smtpcore_adapters.check._raw_client import RawClient, _literal
from smtpcore_adapters.cli import main
from smtpcore_adapters.testing import SmtpServer
from tests.adapters.check.faulty_servers import scripted
from tests.adapters.check.helpers import failed, outcome_of, target_of, with_outcome
from tests.adapters.peers import Peer

# All checks of false ends of messages work in the same way, so one of these checks is enough.
FEW = tuple(check for check in CHECKS if not check.id.startswith("smuggling-") or check.id == "smuggling-lf-lf")


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the pauses that cut the input of a server into segments: no policy depends on them."""
    monkeypatch.setattr(RawClient, "pause", lambda client: None)


def findings_on(server: SmtpServer, **options: object) -> list[Finding]:
    return list(run_checks(target_of(server.address, sender="b@s.example", timeout=5.0, **options), FEW))


@pytest.mark.parametrize(
    ("event", "replies"),
    [
        ("EHLO 5", ["450"]),
        ("HELO", ["450 4.7.1 Later", "550", "421"]),
        ("MAIL", ["450 4.1.8 Sender domain not found", "550 5.7.1 No", "553 5.1.8 No such domain", "421", "drop"]),
        ("RCPT", ["450 4.2.0 Greylisted", "550", "554 5.7.1 Access denied"]),
        ("RCPT 2", ["450", "550 5.7.1 One recipient only", "452 4.2.2 Mailbox full", "drop"]),
        ("DATA", ["451", "554", "421"]),
        ("message", ["450", "554 5.7.1 Spam", "550", "552 5.2.2 Quota", "421"]),
        ("message 2", ["450", "554 5.7.1 Spam"]),
        ("NOOP", ["450", "550 No"]),
        ("RSET", ["421", "554"]),
        ("VRFY", ["421", "502 5.7.0 Disabled"]),
        ("connect 9", ["421 4.7.0 Too many connections", "drop"]),
    ],
)
def test_check_does_not_fail_if_a_policy_refuses_any_step(event: str, replies: list[str]) -> None:
    for reply in replies:
        with SmtpServer(faults=[f"{event} -> {reply}"], max_size=65_536) as server:
            findings = findings_on(server)

        assert not failed(findings), reply
        assert with_outcome(findings, Outcome.INCONCLUSIVE) or event.startswith(("HELO", "RCPT 2", "message 2", "VRFY"))


class SenderPolicy:
    def on_mail(self, session: object, mail: object) -> Reply | None:
        if "<>" not in str(mail):
            return Reply(450, "Sender domain not found", enhanced="4.1.8")
        return None


class NamePolicy:
    """Refuses clients whose name is not in the DNS, as `reject_unknown_helo_hostname` of Postfix does."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def on_ehlo(self, session: object, ehlo: Ehlo) -> Reply | None:
        return self._judge(ehlo.domain)

    def on_helo(self, session: object, helo: Helo) -> Reply | None:
        return self._judge(helo.domain)

    def _judge(self, name: str) -> Reply | None:
        self.names.add(name)
        is_known = name.startswith("[") or name == "mx.known.example"
        return None if is_known else Reply(450, "Helo command rejected: Host not found", enhanced="4.7.1")


@pytest.mark.parametrize(("helo", "name"), [("", "[127.0.0.1]"), ("mx.known.example", "mx.known.example")])
def test_client_of_check_gives_its_address_or_the_given_name(helo: str, name: str) -> None:
    policy = NamePolicy()
    with SmtpServer(handlers=[policy], max_size=65_536) as server:
        target = target_of(server.address, sender="b@s.example", helo=helo)
        findings = list(run_checks(target, choose(["seq"])))

    assert policy.names == {name}
    assert with_outcome(findings, Outcome.INCONCLUSIVE) == set()
    assert not failed(findings)


@pytest.mark.parametrize(
    ("host", "literal"),
    [
        ("192.0.2.7", "[192.0.2.7]"),
        ("2001:db8::7", "[IPv6:2001:db8::7]"),
        ("fe80::7%eth0", "[IPv6:fe80::7]"),
        ("::ffff:192.0.2.7", "[192.0.2.7]"),
    ],
)
def test_address_of_the_client_is_a_literal(host: str, literal: str) -> None:
    assert _literal(host) == literal


def test_checks_that_need_a_sender_are_inconclusive_if_senders_are_refused() -> None:
    with SmtpServer(handlers=[SenderPolicy()], max_size=65_536) as server:
        findings = findings_on(server)

    assert not failed(findings)
    needs_sender = {"size-declared", "pipelining-order", "data-header", "limit-domain", "param-body-case", "seq-noop"}
    assert needs_sender <= with_outcome(findings, Outcome.INCONCLUSIVE)
    assert {"path-null-sender", "path-unclosed", "seq-helo"} <= with_outcome(findings, Outcome.PASS)


@pytest.mark.parametrize(("tls", "user"), [("none", ""), ("starttls", ""), ("starttls", "tim"), ("implicit", "tim")])
def test_no_check_fails_if_the_server_requires_tls_and_a_login(tls: str, user: str) -> None:
    options = {"auth": {"tim": "secret"}, "require_auth": True, "require_tls": True, "implicit_tls": tls == "implicit"}
    with SmtpServer(**options) as server:  # type: ignore[arg-type]
        findings = findings_on(server, tls=tls, user=user, password="secret")

    assert not failed(findings)
    assert ("data-header" in with_outcome(findings, Outcome.PASS)) is bool(user)
    if tls != "none":
        assert {"seq-helo", "seq-rset-first"} <= with_outcome(findings, Outcome.PASS)


@pytest.mark.parametrize("event", ["MAIL -> 450", "RCPT 2 -> 550", "DATA -> 451", "message -> 554", "message -> 421"])
def test_no_check_fails_if_an_lmtp_server_refuses_by_policy(event: str) -> None:
    with SmtpServer(lmtp=True, faults=[event]) as server:
        findings = findings_on(server, lmtp=True)

    assert not failed(findings)
    assert "lmtp-replies" in with_outcome(findings, Outcome.INCONCLUSIVE) or event.startswith("message -> 554")


@pytest.mark.parametrize("event", ["AUTH -> 454", "AUTH -> 530", "AUTH -> 421"])
def test_no_check_fails_if_the_server_temporarily_cannot_check_passwords(event: str) -> None:
    with SmtpServer(auth={"tim": "secret"}, faults=[event], implicit_tls=True) as server:
        findings = findings_on(server, tls="implicit")

    assert not failed(findings)
    assert {"auth-wrong"} <= with_outcome(findings, Outcome.INCONCLUSIVE)


def test_session_refused_at_ehlo_cannot_be_checked() -> None:
    with SmtpServer(faults=["EHLO -> 550 5.7.1 I do not know you"]) as server, pytest.raises(CannotCheck, match="EHLO"):
        findings_on(server)


# A refusal of the tested step itself


@pytest.mark.parametrize(
    ("name", "replies", "outcome"),
    [
        # The control, with plain commands, is refused too
        ("verb-case", {"NOOP": "550 not you\r\n"}, Outcome.INCONCLUSIVE),
        ("path-postmaster", {"RCPT": "550 not you\r\n"}, Outcome.INCONCLUSIVE),
        # The code or the enhanced status code names a policy
        (
            "verb-trailing-space",
            {"RSET ": "550 5.7.1 not you\r\n", "RSET": "550 5.7.1 not you\r\n"},
            Outcome.INCONCLUSIVE,
        ),
        ("hello-literal", {}, Outcome.PASS),
        ("verb-vrfy", {"VRFY": "502 5.7.0 disabled\r\n"}, Outcome.INCONCLUSIVE),
        ("verb-vrfy", {"VRFY": "502 disabled (#5.7.0)\r\n"}, Outcome.INCONCLUSIVE),
        ("verb-vrfy", {"VRFY": "502 5.5.1 disabled\r\n"}, Outcome.FAIL),
        ("seq-helo", {"HELO": "554 no\r\n"}, Outcome.INCONCLUSIVE),
        ("seq-helo", {"HELO": "530 5.7.0 TLS first\r\n"}, Outcome.INCONCLUSIVE),
        ("seq-helo", {"HELO": "521 no mail here\r\n"}, Outcome.INCONCLUSIVE),
        ("seq-helo", {"HELO": "502 what\r\n"}, Outcome.FAIL),
        ("seq-rset-first", {"RSET": "530 TLS first\r\n"}, Outcome.INCONCLUSIVE),
        ("verb-unknown", {"XSMTPCORECHECK": "530 TLS first\r\n"}, Outcome.INCONCLUSIVE),
        ("verb-unknown", {"XSMTPCORECHECK": "421 later\r\n"}, Outcome.INCONCLUSIVE),
        ("seq-goodbye", {"XSMTPCORECHECK": ""}, Outcome.INCONCLUSIVE),
        ("seq-two-messages", {"DATA": "354 go\r\n", "FROM:": "452 later\r\n"}, Outcome.INCONCLUSIVE),
        ("tls-forgets-transaction", {"EHLO": "250-x\r\n250 STARTTLS\r\n", "MAIL": "450 no\r\n"}, Outcome.INCONCLUSIVE),
    ],
)
def test_refusal_of_the_tested_step_is_a_failure_only_without_a_policy_as_the_reason(
    name: str, replies: dict[str, str], outcome: Outcome
) -> None:
    assert outcome_of(name, scripted(replies))[0] is outcome


def test_greeting_check_is_inconclusive_if_the_server_refuses_the_connection() -> None:
    greetings = chain(["220 s.example\r\n"], repeat("421 4.7.0 Too many connections\r\n"))

    assert outcome_of("reply-names-host", lambda peer: scripted({"": next(greetings)})(peer)) == (
        Outcome.INCONCLUSIVE,
        "the server refuses the session: 421 4.7.0 Too many connections",
    )


@pytest.mark.parametrize(("reply", "outcome"), [("535 wrong", Outcome.FAIL), ("454 later", Outcome.INCONCLUSIVE)])
def test_check_of_a_second_login_fails_only_if_the_server_checks_the_password(reply: str, outcome: Outcome) -> None:
    def serve(peer: Peer) -> None:
        scripted({"AUTH": ""})(peer)
        peer.send(b"235 welcome\r\n").until(b"\r\n")
        peer.send(f"{reply}\r\n".encode())

    def greet_only(peer: Peer) -> None:
        first = next(connections)
        (scripted({"AUTH": "235 welcome\r\n"}) if first else serve)(peer)

    connections = iter([True, False, False, False])
    assert outcome_of("auth-twice", greet_only, user="tim")[0] is outcome


class Filter:
    """Refuses each message that contains one of the given words."""

    def __init__(self, words: list[bytes], reply: Reply) -> None:
        self.words, self.reply = words, reply

    async def on_message(self, session: object, message: object) -> Reply | None:
        body: bytes = await message.read()  # type: ignore[attr-defined]
        return self.reply if any(word in body for word in self.words) else None


@pytest.mark.parametrize(
    ("name", "word", "reply", "outcome"),
    [
        ("data-8bit", b"\xff", Reply(554, "Spam"), Outcome.INCONCLUSIVE),
        ("data-8bit", b"\xff", Reply(554, "Bad charset", enhanced="5.6.0"), Outcome.FAIL),
        ("data-8bit", b"8bit", Reply(554, "Spam", enhanced="5.7.1"), Outcome.INCONCLUSIVE),
        ("limit-message", b"x" * 70, Reply(550, "Virus"), Outcome.INCONCLUSIVE),
        ("limit-message", b"x" * 70, Reply(552, "Too big"), Outcome.FAIL),
        ("limit-message", b"x" * 70, Reply(554, "Too big", enhanced="5.3.4"), Outcome.FAIL),
        ("limit-message", b"x" * 70, Reply(552, "Over quota", enhanced="5.2.2"), Outcome.INCONCLUSIVE),
        ("limit-text-line", b"x" * 998, Reply(554, "Long line", enhanced="5.7.1"), Outcome.INCONCLUSIVE),
        ("data-octets", b"dot", Reply(550, "Not so"), Outcome.FAIL),
        ("data-octets", b"Subject", Reply(550, "Not so"), Outcome.INCONCLUSIVE),
        ("chunking-message", b"Subject", Reply(554, "Spam"), Outcome.INCONCLUSIVE),
    ],
)
def test_refusal_of_a_message_is_a_failure_only_if_its_form_or_size_is_the_reason(
    name: str, word: bytes, reply: Reply, outcome: Outcome
) -> None:
    with SmtpServer(handlers=[Filter([word], reply)]) as server:
        findings = run_checks(target_of(server.address), choose([name]))
        (found,) = [finding.outcome for finding in findings if finding.id == name]

    assert found is outcome


# The limits


class Limits:
    """Refuses a sender that exceeds a length limit of RFC 5321 4.5.3.1 or of the DNS; accepts all other senders."""

    def on_mail(self, session: object, mail: object) -> Reply | None:
        path: str = str(mail).partition(":")[2].partition(" ")[0]
        local_part, _, domain = path.strip("<>").rpartition("@")
        if len(path) > 256 or len(local_part) > 64 or len(domain) > 253 or max(map(len, domain.split("."))) > 63:
            return Reply(501, "Path too long", enhanced="5.5.4")
        return None


@pytest.mark.parametrize("domain", ["s.example", "s." * 33 + "example", "s" * 60 + ".example", f"{'s' * 57}.example"])
def test_check_of_one_limit_exceeds_no_other_limit(domain: str) -> None:
    with SmtpServer(handlers=[Limits()]) as server:
        findings = list(run_checks(target_of(server.address, sender=f"a@{domain}"), choose(["limit"])))

    assert {finding.outcome for finding in findings} == {Outcome.PASS}
    (sent,) = [finding.sent for finding in findings if finding.id == "limit-domain"]
    assert f"...{len('MAIL FROM:') + 256 + 2} octets..." in sent


@pytest.mark.parametrize(
    ("name", "domain"), [("limit-domain", "[192.0.2.1]"), ("limit-local-part", ".".join(["s" * 60] * 4))]
)
def test_limit_that_the_sender_cannot_reach_is_not_applicable(name: str, domain: str) -> None:
    with SmtpServer() as server:
        (finding,) = run_checks(target_of(server.address, sender=f"a@{domain}"), choose([name]))

    assert finding.outcome is Outcome.NOT_APPLICABLE


@pytest.mark.parametrize("words", ["452 Too many recipients", "550 5.5.3 Enough"])
def test_limit_below_100_recipients_is_a_fault(words: str) -> None:
    with SmtpServer(faults=[f"RCPT 50 -> {words}"]) as server:
        (finding,) = run_checks(target_of(server.address), choose(["limit-recipients"]))

    assert finding.outcome is Outcome.FAIL
    assert "recipient 50" in finding.note


# The command line


def test_default_sender_is_in_a_domain_that_the_server_knows(capsys: pytest.CaptureFixture[str]) -> None:
    class KnownDomain:
        def on_mail(self, session: object, mail: object) -> Reply | None:
            return None if "s.example>" in str(mail) else Reply(550, "No such domain", enhanced="5.1.8")

    options = ["--to", "b@s.example", "--json", "--only", "data-header", "--only", "limit-domain", "--only", "utf8"]
    with SmtpServer(handlers=[KnownDomain()]) as server:
        assert main(["check", str(server.address), *options]) == 0

    outcomes = {each["id"]: each["outcome"] for each in json.loads(capsys.readouterr().out)["findings"]}
    assert set(outcomes.values()) == {"pass"}
