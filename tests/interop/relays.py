"""Real mail servers that relay messages to other servers, each by two ways: directly, and through smtpcore.

A relay has a port for each way, and a log with the reply that it got for each recipient.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.contenders.postfix_server import QUEUES, SERVICES
from benchmarks.ports import reserved_ports
from tests.interop.servers import accepts, ids, make, process, program, wait_until, with_users

WAYS: Final = ("direct", "middle")
"""Names of the ways, of the same length: from the relay to the server, and with smtpcore in the middle."""


@dataclass(frozen=True)
class Hop:
    """The next server on a way."""

    port: int = 0
    lmtp: bool = False
    path: Path | None = None
    """The Unix socket of an LMTP server, instead of a port. Only Postfix uses it."""
    proxy_filter: bool = False
    """Whether Postfix passes the commands of its client on at once (`smtpd_proxy_filter`), and queues nothing."""


@dataclass(frozen=True, order=True)
class Outcome:
    """The reply that a relay got for a recipient."""

    recipient: str
    verdict: str
    """`sent`, `bounced` or `deferred`."""
    code: str
    """The code and the enhanced code of the reply, such as `550 5.1.1`, or the reason why there was no reply."""
    after: str
    """`MAIL`, `RCPT` or `DATA`, the command that got the reply; BDAT counts as DATA."""


@dataclass
class Relay:
    """A running relay."""

    name: str
    ports: Mapping[str, int]
    """The port for each way."""
    log: Path
    output: Path

    def outcomes(self, message_id: str, recipients: Iterable[str]) -> list[Outcome]:
        """Wait for the first outcome of each recipient of a message."""

        def find() -> list[Outcome] | None:
            found = _PARSERS[self.name](self.text(), message_id)
            return [found[name] for name in wanted] if found.keys() >= wanted else None

        wanted = set(recipients)
        outcomes = wait_until(find, lambda: f"no outcome of {message_id} for all of {wanted}:\n{self.text()[-8000:]}")
        return sorted(outcomes)

    def text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


@contextmanager
def relay(name: str, hops: Mapping[str, Hop]) -> Iterator[Relay]:
    """Run the relay `name` until the end of the block. Skips the test if that is not possible."""
    with TemporaryDirectory(prefix=f"{name}-relay-") as path, reserved_ports(len(hops)) as ports:
        directory = Path(path)
        directory.chmod(0o755)  # some processes of the relay do not run as root
        with _RELAYS[name](directory, dict(zip(hops, ports, strict=True)), hops) as running:
            yield running


def _code(reply: str) -> str:
    match = re.match(r"([2-5][0-9][0-9])[ -]?([245]\.[0-9]+\.[0-9]+)?", reply)
    return " ".join(part for part in match.groups() if part) if match else reply


def _command(name: str) -> str:
    return "DATA" if name == "BDAT" else name.upper()


# Postfix


_POSTFIX_MAIN = """
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
mail_owner = postfix
maillog_file = {directory}/log/postfix
maillog_file_prefixes = {directory}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = relay.example
mydestination =
mynetworks = 127.0.0.0/8, 203.0.113.0/24
alias_maps =
default_database_type = texthash
default_transport = discard
relay_transport = discard
message_size_limit = 300000000
smtpd_recipient_restrictions = permit_mynetworks, reject
smtpd_client_connection_count_limit = 0
smtpd_authorized_xclient_hosts = 127.0.0.1
smtp_tls_security_level = may
smtputf8_enable = yes
smtp_dns_support_level = disabled
smtp_host_lookup = native
minimal_backoff_time = 1h
# On a cached connection Postfix does not check for SMTPUTF8, so results would depend on the time.
smtp_connection_cache_on_demand = no
lmtp_connection_cache_on_demand = no
"""

_POSTFIX_CLIENTS = """\
smtp unix - - n - - smtp
lmtp unix - - n - - lmtp
scache unix - - n - 1 scache
"""


@contextmanager
def _postfix(directory: Path, ports: Mapping[str, int], hops: Mapping[str, Hop]) -> Iterator[Relay]:
    master = program("master", path="/usr/lib/postfix/sbin")
    make(directory, "conf", "log", "queue", "queue/pid")
    make(directory, "data", *(f"queue/{name}" for name in QUEUES), owner="postfix")
    make(directory, "queue/private", "queue/public", "queue/maildrop", owner="postfix")
    services = []
    for way, hop in hops.items():
        address = f"unix:{hop.path}" if hop.path else f"inet:127.0.0.1:{hop.port}"
        transport = f"lmtp:{address}" if hop.lmtp else f"smtp:[127.0.0.1]:{hop.port}"
        option = f"smtpd_proxy_filter=127.0.0.1:{hop.port}" if hop.proxy_filter else f"content_filter={transport}"
        services.append(f"127.0.0.1:{ports[way]} inet n - n - - smtpd -o {option}\n")
    (directory / "conf/main.cf").write_text(_POSTFIX_MAIN.format(directory=directory))
    (directory / "conf/master.cf").write_text(SERVICES + _POSTFIX_CLIENTS + "".join(services))
    command = [master, "-c", str(directory / "conf"), "-d"]
    with process(command, directory, lambda: all(map(accepts, ports.values()))):
        yield Relay("postfix", ports, directory / "log/postfix", directory / "output")


def _postfix_outcomes(log: str, message_id: str) -> dict[str, Outcome]:
    queue_id = re.search(rf"postfix/cleanup.*: (\w+): message-id=<{re.escape(message_id)}>", log)
    if not queue_id:
        return {}

    found: dict[str, Outcome] = {}
    lines = rf": {queue_id[1]}: to=<([^>]*)>,.* dsn=([0-9.]+), status=(\w+) \((.*)\)$"
    for recipient, status, verdict, text in re.findall(lines, log, re.MULTILINE):
        if verdict == "sent":
            found.setdefault(recipient, Outcome(recipient, verdict, _code(text), "DATA"))
        elif said := re.fullmatch(r"host .* said: (.*) \(in reply to (?:end of )?(\w+).* command\)", text):
            found.setdefault(recipient, Outcome(recipient, verdict, _code(said[1]), _command(said[2])))
        else:
            found.setdefault(recipient, Outcome(recipient, verdict, f"{status} {text}", ""))
    return found


# Exim


_EXIM = """
exim_path = {exim}
spool_directory = {directory}/spool
log_file_path = {directory}/log/%slog
log_selector = +smtp_confirmation +received_recipients
pid_file_path = {directory}/pid
primary_hostname = relay.example
local_interfaces = 127.0.0.1
daemon_smtp_ports = {ports}
tls_advertise_hosts =
chunking_advertise_hosts = *
dsn_advertise_hosts = *
smtputf8_advertise_hosts = *
message_size_limit = 300M
received_header_text = Received: by exim
acl_smtp_mail = accept
acl_smtp_rcpt = accept
acl_smtp_data = accept
host_lookup =
rfc1413_hosts =
never_users =
keep_environment =
queue_only = false
begin routers
notifications:
  driver = redirect
  senders = :
  domains = client.example
  data = :blackhole:
next:
  driver = manualroute
  route_data = 127.0.0.1::${{lookup{{$received_port}}lsearch{{{directory}/hops}}}}
  transport = ${{lookup{{$received_port}}lsearch{{{directory}/transports}}}}
  self = send
begin transports
smtp:
  driver = smtp
  allow_localhost
lmtp:
  driver = smtp
  protocol = lmtp
  port = 24
  allow_localhost
begin retry
* * F,1d,1h
"""


@contextmanager
def _exim(directory: Path, ports: Mapping[str, int], hops: Mapping[str, Hop]) -> Iterator[Relay]:
    exim = program("exim4")
    mounts = with_users(directory, "Debian-exim")
    make(directory, "spool", "log")
    for name in ("spool", "log"):
        os.chown(directory / name, *ids(mounts, "Debian-exim"))
    (directory / "hops").write_text("".join(f"{ports[way]}: {hop.port}\n" for way, hop in hops.items()))
    names = {way: "lmtp" if hop.lmtp else "smtp" for way, hop in hops.items()}
    (directory / "transports").write_text("".join(f"{ports[way]}: {name}\n" for way, name in names.items()))
    config = directory / "exim.conf"
    config.write_text(_EXIM.format(exim=exim, directory=directory, ports=" : ".join(map(str, ports.values()))))
    command = [exim, "-C", str(config), "-bdf", "-q1h"]
    with process(command, directory, lambda: all(map(accepts, ports.values())), mounts=mounts):
        yield Relay("exim4", ports, directory / "log/mainlog", directory / "output")


_EXIM_VERDICTS: Final = {"=>": "sent", "->": "sent", "**": "bounced", "==": "deferred"}


def _exim_outcomes(log: str, message_id: str) -> dict[str, Outcome]:
    arrival = re.search(rf" (\S+) <= .* id={re.escape(message_id)}( |$)", log, re.MULTILINE)
    if not arrival:
        return {}

    found: dict[str, Outcome] = {}
    # The address as it came follows in angle brackets, if Exim has changed it.
    lines = rf" {re.escape(arrival[1])} (=>|->|\*\*|==) (\S+)(?: <(\S+)>)?(.*)$"
    for sign, changed, came, text in re.findall(lines, log, re.MULTILINE):
        recipient, verdict = came or changed, _EXIM_VERDICTS[sign]
        if said := re.search(r' C="(.*)"', text):
            found.setdefault(recipient, Outcome(recipient, verdict, _code(said[1]), "DATA"))
        elif said := re.search(r" after (?:pipelined )?(?:sending )?(?:end of )?(\w+).*?: ([2-5][0-9][0-9].*)", text):
            found.setdefault(recipient, Outcome(recipient, verdict, _code(said[2]), _command(said[1])))
        else:
            found.setdefault(recipient, Outcome(recipient, verdict, text.rpartition(": ")[2], ""))
    return found


_RELAYS: Final = {"postfix": _postfix, "exim4": _exim}
_PARSERS: Final = {"postfix": _postfix_outcomes, "exim4": _exim_outcomes}
NAMES: Final = tuple(_RELAYS)
