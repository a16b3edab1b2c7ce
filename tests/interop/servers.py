"""Real mail servers, each in a temporary directory and on free ports of the loopback interface.

A server that is not installed is looked for where `.ci/servers` unpacks packages. A test is skipped, with the reason,
if its server is not available.
"""

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TypeVar

import pytest
import trustme

from benchmarks.contenders.postfix_server import QUEUES, SERVICES
from benchmarks.ports import reserved_ports

T = TypeVar("T")

TIMEOUT: Final = 30.0
USER: Final = "tim"
PASSWORD: Final = "tans taaf"
RECIPIENTS: Final = ("a@example.org", "b@example.org", "c@example.org")
"""Recipients that all servers accept.

All servers refuse `nobody@example.org`, and refuse temporarily recipients whose name begins with `later`. Postfix and
Exim refuse messages with a field `X-Refuse:`.
"""
DEFERRED: Final = ("later", "later.direct", "later.middle")
"""Names of recipients that all servers refuse temporarily. Dovecot does so after the body."""
CERTIFIED: Final = ("localhost", "127.0.0.1")

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
UNPACKED: Final = Path(os.environ.get("SMTPCORE_SERVERS") or _CACHE / "smtpcore" / "servers")
_MOUNTED: Final = "/mnt"
"""Mount point of `UNPACKED`, because some programs run as users that may not read the cache directory."""
_LIBRARIES: Final = [f"{_MOUNTED}/usr/lib{part}" for part in ("", "/x86_64-linux-gnu", "/aarch64-linux-gnu")]


@dataclass
class MailServer:
    """A running mail server."""

    name: str
    directory: Path
    port: int
    ca: Path | None = None
    """The certificate of the authority that issued the server's certificate for `localhost`."""
    tls_port: int | None = None
    """The port for implicit TLS."""
    lmtp: bool = False
    offers: frozenset[str] = frozenset()
    """The extensions of the server: `STARTTLS`, `AUTH`, `CHUNKING`, `SMTPUTF8`, ..."""
    logs: list[Path] = field(default_factory=list)

    @property
    def mail(self) -> Path:
        """The directory below which each message is delivered into a file."""
        return self.directory / "mail"

    def messages(self) -> list[Path]:
        """Return the files of the delivered messages."""
        return [path for path in self.mail.rglob("*") if path.is_file() and path.parent.name in ("new", "cur")]

    def message(self, marker: str) -> bytes:
        """Wait for the message that contains `marker`, and return the message with LF line ends."""
        return self.file(marker).read_bytes().replace(b"\r\n", b"\n")

    def file(self, marker: str) -> Path:
        """Wait for the file of the message whose first 64 KB contain `marker`."""

        def find() -> Path | None:
            found = (path for path in self.messages() if marker.encode() in _head(path))
            return next(found, None)

        return wait_until(find, lambda: f"{self.name} did not deliver {marker}:\n{self.log()}")

    def log(self) -> str:
        """Return the end of each log file."""
        return "\n".join(path.read_text(errors="replace")[-4000:] for path in self.logs if path.exists())


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(65_536)


def wait_until(find: Callable[[], T | None], failure: Callable[[], str]) -> T:
    """Call `find` repeatedly until it returns a value other than None."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        found = find()
        if found is not None:
            return found
        time.sleep(0.02)

    raise AssertionError(failure())


# Functions shared by all servers


@contextmanager
def server(name: str) -> Iterator[MailServer]:
    """Run the server `name` until the end of the block. Skips the test if that is not possible."""
    if os.geteuid() != 0:
        pytest.skip(f"{name} can be started by root only")

    with TemporaryDirectory(prefix=f"{name}-") as path, reserved_ports(2) as (port, tls_port):
        directory = Path(path)
        directory.chmod(0o755)  # some processes of the server do not run as root
        with _SERVERS[name](directory, port, tls_port) as running:
            yield running


def program(name: str, *, path: str = "/usr/sbin:/usr/bin") -> str:
    """Return the path of a program inside the server's namespace. Skips the test if the program is missing."""
    installed = shutil.which(name, path=path)
    if installed:
        return installed
    if not (UNPACKED / "usr/sbin" / name).exists():
        pytest.skip(f"{name} is not installed, nor unpacked by .ci/servers")

    return f"{_MOUNTED}/usr/sbin/{name}"


def is_unpacked(program: str) -> bool:
    """Return whether a program comes from `UNPACKED`."""
    return program.startswith(f"{_MOUNTED}/")


def certify(directory: Path) -> tuple[Path, Path, Path]:
    """Write the files of a new certificate: its authority, its chain, and its key."""
    authority = trustme.CA()
    certificate = authority.issue_cert(*CERTIFIED)
    names = directory / "ca.pem", directory / "chain.pem", directory / "key.pem"
    authority.cert_pem.write_to_path(names[0])
    for pem in certificate.cert_chain_pems:
        pem.write_to_path(names[1], append=True)
    certificate.private_key_pem.write_to_path(names[2])
    names[2].chmod(0o600)
    return names


@contextmanager
def process(
    command: list[str], directory: Path, is_ready: Callable[[], bool], *, mounts: Mapping[str, Path] | None = None
) -> Iterator[None]:
    # New mount and process namespaces: the server sees the files of the test in their usual places, and none of its
    # processes outlives the test.
    steps = [f"mount --bind '{source}' '{target}'" for target, source in (mounts or {}).items()]
    if is_unpacked(command[0]):
        # For set-uid programs the linker ignores LD_LIBRARY_PATH and reads its cache only.
        cache = directory / "ld.so.cache"
        steps += [f"mount --bind '{UNPACKED}' {_MOUNTED}", f"ldconfig -X -C '{cache}' {' '.join(_LIBRARIES)}"]
        steps += [f"mount --bind '{cache}' /etc/ld.so.cache"]
    script = " && ".join([*steps, 'exec "$@"'])
    output = directory / "output"
    with output.open("ab") as file:
        started = subprocess.Popen(
            ["unshare", *_NAMESPACES, "sh", "-ec", script, "sh", *command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=directory,
        )

    def ready() -> bool | None:
        if started.poll() is not None:
            raise AssertionError(f"{command} has ended: {output.read_text(errors='replace')}")

        return is_ready() or None

    try:
        wait_until(ready, lambda: output.read_text(errors="replace"))
        yield
    finally:
        _end(started)


def _end(process: "subprocess.Popen[bytes]") -> None:
    # The child is the first process of the namespace: its end also ends all other processes of the namespace.
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)
    process.wait()


_NAMESPACES: Final = ("--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT).close()
    except ConnectionRefusedError:
        return False
    else:
        return True


def make(directory: Path, *names: str, owner: str | None = None) -> None:
    for name in names:
        path = directory / name
        path.mkdir(parents=True, exist_ok=True)
        if owner:
            shutil.chown(path, owner)


def with_users(directory: Path, *names: str) -> dict[str, Path]:
    """Write copies of /etc/passwd and /etc/group with further entries. Return them by the path to mount them at."""
    for kind, entry in (("passwd", "{0}:x:{1}:{1}::/nonexistent:/bin/false\n"), ("group", "{0}:x:{1}:\n")):
        known = Path(f"/etc/{kind}").read_text()
        missing = [name for name in names if f"\n{name}:" not in known]
        entries = [entry.format(name, 59_000 + number) for number, name in enumerate(missing)]
        (directory / kind).write_text(known + "".join(entries))

    return {f"/etc/{kind}": directory / kind for kind in ("passwd", "group")}


def ids(files: Mapping[str, Path], name: str) -> tuple[int, int]:
    entry = re.search(rf"^{name}:[^:]*:(\d+):(\d+):", files["/etc/passwd"].read_text(), re.MULTILINE)
    assert entry
    return int(entry[1]), int(entry[2])


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
myhostname = localhost
mydestination =
mynetworks =
alias_maps =
local_recipient_maps =
default_database_type = texthash
virtual_mailbox_domains = example.org
virtual_mailbox_base = {directory}/mail
virtual_mailbox_maps = regexp:{directory}/conf/mailboxes
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
virtual_mailbox_limit = 0
message_size_limit = 300000000
header_checks = regexp:{directory}/conf/headers
smtpd_recipient_restrictions =
    check_recipient_access regexp:{directory}/conf/deferred, permit_sasl_authenticated, reject_unauth_destination
smtpd_tls_cert_file = {chain}
smtpd_tls_key_file = {key}
smtpd_tls_security_level = may
smtpd_tls_auth_only = yes
smtputf8_enable = yes
smtpd_authorized_xclient_hosts = 127.0.0.1
smtpd_authorized_xforward_hosts = 127.0.0.1
smtpd_sasl_auth_enable = {sasl}
smtpd_sasl_type = dovecot
smtpd_sasl_path = {directory}/dovecot/auth
"""

_POSTFIX_LISTENERS = """\
127.0.0.1:{port} inet n - n - - smtpd
127.0.0.1:{tls_port} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
virtual unix - n n - - virtual
"""


@contextmanager
def _postfix(directory: Path, port: int, tls_port: int) -> Iterator[MailServer]:
    master = program("master", path="/usr/lib/postfix/sbin")
    ca, chain, key = certify(directory)
    user = pwd.getpwnam("postfix")
    make(directory, "conf", "log", "queue", "queue/pid")
    make(directory, "data", "mail", *(f"queue/{name}" for name in QUEUES), owner="postfix")
    make(directory, "queue/private", "queue/public", "queue/maildrop", owner="postfix")
    values = {
        "directory": directory,
        "uid": user.pw_uid,
        "gid": user.pw_gid,
        "chain": chain,
        "key": key,
        "sasl": "yes" if shutil.which("dovecot") else "no",
        "port": port,
        "tls_port": tls_port,
    }
    (directory / "conf/main.cf").write_text(_POSTFIX_MAIN.format(**values))
    (directory / "conf/master.cf").write_text(_POSTFIX_LISTENERS.format(**values) + SERVICES)
    (directory / "conf/mailboxes").write_text("!/^nobody@/ all/\n")
    (directory / "conf/deferred").write_text("/^later/ 450 4.2.0 Come back later\n")
    (directory / "conf/headers").write_text("/^X-Refuse:/ REJECT No dead parrots\n")
    offers = {"PIPELINING", "SIZE", "STARTTLS", "CHUNKING", "8BITMIME", "SMTPUTF8", "DSN", "XCLIENT", "XFORWARD"}
    with ExitStack() as stack:
        if shutil.which("dovecot"):
            make(directory, "dovecot")
            stack.enter_context(_dovecot_auth(directory / "dovecot"))
            offers.add("AUTH")
        stack.enter_context(process([master, "-c", str(directory / "conf"), "-d"], directory, lambda: accepts(port)))
        yield MailServer(
            "postfix",
            directory,
            port,
            ca,
            tls_port,
            offers=frozenset(offers),
            logs=[directory / "log/postfix", directory / "output"],
        )


# Exim


_EXIM = """
exim_path = {exim}
spool_directory = {directory}/spool
log_file_path = {directory}/log/%slog
pid_file_path = {directory}/pid
primary_hostname = localhost
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port} : {tls_port}
tls_on_connect_ports = {tls_port}
tls_advertise_hosts = *
tls_certificate = {chain}
tls_privatekey = {key}
chunking_advertise_hosts = *
pipelining_advertise_hosts = *
auth_advertise_hosts = ${{if eq{{$tls_in_cipher}}{{}}{{}}{{*}}}}
dsn_advertise_hosts = *
smtputf8_advertise_hosts = *
message_size_limit = 300M
smtp_accept_max = 0
received_header_text = Received: by exim
acl_smtp_mail = accept
acl_smtp_rcpt = check
acl_smtp_data = check_content
host_lookup =
rfc1413_hosts =
never_users =
keep_environment =
queue_only = false
begin acl
check:
  deny message = No such user
    local_parts = nobody
  defer message = Come back later
    local_parts = ^later
  accept domains = example.org
  accept authenticated = *
  deny message = relay not permitted
check_content:
  deny message = No dead parrots
    condition = ${{if def:h_X-Refuse:}}
  accept
begin routers
all:
  driver = accept
  transport = store
begin transports
store:
  driver = appendfile
  directory = {directory}/mail
  maildir_format
  user = Debian-exim
  group = Debian-exim
  return_path_add
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{{user}}}}}{{eq{{$auth3}}{{{password}}}}}}}}}
  server_set_id = $auth2
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${{if and{{{{eq{{$auth1}}{{{user}}}}}{{eq{{$auth2}}{{{password}}}}}}}}}
  server_set_id = $auth1
cram:
  driver = cram_md5
  public_name = CRAM-MD5
  server_secret = ${{if eq{{$auth1}}{{{user}}}{{{password}}}fail}}
  server_set_id = $auth1
"""


@contextmanager
def _exim(directory: Path, port: int, tls_port: int) -> Iterator[MailServer]:
    exim = program("exim4")
    ca, chain, key = certify(directory)
    mounts = with_users(directory, "Debian-exim")
    make(directory, "spool", "log", "mail")
    for name in ("spool", "log", "mail"):
        os.chown(directory / name, *ids(mounts, "Debian-exim"))
    for path in (chain, key):
        path.chmod(0o644)

    values = {"directory": directory, "exim": exim, "port": port, "tls_port": tls_port, "chain": chain, "key": key}
    config = directory / "exim.conf"
    config.write_text(_EXIM.format(**values, user=USER, password=PASSWORD))
    command = [exim, "-C", str(config), "-bdf", "-q10m"]
    with process(command, directory, lambda: accepts(port), mounts=mounts):
        yield MailServer(
            "exim4",
            directory,
            port,
            ca,
            tls_port,
            offers=frozenset({"PIPELINING", "SIZE", "STARTTLS", "CHUNKING", "8BITMIME", "SMTPUTF8", "DSN", "AUTH"}),
            logs=[directory / "log/mainlog", directory / "log/paniclog", directory / "output"],
        )


# OpenSMTPD


# No TLS, and therefore no AUTH: Debian builds OpenSMTPD for OpenSSL 3, with which its handshakes fail.
_OPENSMTPD = """
smtp max-message-size 300M
table virtuals file:{directory}/virtuals
listen on 127.0.0.1 port {port} hostname localhost
action store maildir "{directory}/mail" virtual <virtuals>
match from any for domain example.org action store
"""


@contextmanager
def _opensmtpd(directory: Path, port: int, tls_port: int) -> Iterator[MailServer]:
    smtpd = program("smtpd")
    mounts = with_users(directory, "opensmtpd", "opensmtpq")
    make(directory, "spool/smtpd", "run", "mail")
    (directory / "spool/smtpd").chmod(0o711)
    shutil.chown(directory / "mail", "mail")
    refused = ["nobody@example.org error:550 No such user"]
    refused += [f"{name}@example.org error:450 Come back later" for name in DEFERRED]
    (directory / "virtuals").write_text("\n".join([*refused, "@example.org mail\n"]))
    config = directory / "smtpd.conf"
    config.write_text(_OPENSMTPD.format(directory=directory, port=port))
    mounts |= {"/var/spool": directory / "spool", "/run": directory / "run"}
    if is_unpacked(smtpd):
        mounts |= {"/usr/libexec": UNPACKED / "usr/libexec", "/var/lib": UNPACKED / "var/lib"}

    with process([smtpd, "-d", "-f", str(config)], directory, lambda: accepts(port), mounts=mounts):
        yield MailServer(
            "opensmtpd",
            directory,
            port,
            offers=frozenset({"SIZE", "8BITMIME", "DSN"}),
            logs=[directory / "output"],
        )


# Dovecot


_DOVECOT = """
base_dir = {directory}/base
state_dir = {directory}/state
log_path = {directory}/log
default_internal_user = dovecot
default_login_user = dovenull
ssl = {ssl}
disable_plaintext_auth = no
auth_mechanisms = plain login cram-md5 scram-sha-256
passdb {{
  driver = passwd-file
  args = username_format=%n {directory}/users
}}
userdb {{
  driver = passwd-file
  args = username_format=%n {directory}/users
  default_fields = uid=mail gid=mail home={directory}/mail/%n
}}
auth_failure_delay = 0
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
{more}
"""

_DOVECOT_LMTP = """
protocols = lmtp
mail_location = maildir:~/Maildir
first_valid_uid = 1
mail_max_userip_connections = 0
lmtp_rcpt_check_quota = no
ssl_cert = <{chain}
ssl_key = <{key}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
}}
protocol lmtp {{
  postmaster_address = postmaster@example.org
  mail_plugins =
}}
"""

_DOVECOT_AUTH = """
protocols =
service auth {{
  unix_listener {directory}/auth {{
    mode = 0666
  }}
}}
"""


def _dovecot_config(directory: Path, template: str, ssl: str, **values: object) -> list[str]:
    dovecot = program("dovecot")
    make(directory, "base", "state", "mail")
    shutil.chown(directory / "mail", "mail")
    more = template.format(directory=directory, **values)
    config = directory / "dovecot.conf"
    config.write_text(_DOVECOT.format(directory=directory, ssl=ssl, more=more))
    users = (*(address.partition("@")[0] for address in RECIPIENTS), USER)
    lines = [f"{name}:{{PLAIN}}{PASSWORD}::::::\n" for name in users]
    # A home directory that cannot be created is a temporary failure of each delivery.
    lines += [f"{name}:{{PLAIN}}{PASSWORD}::::/dev/null/{name}::\n" for name in DEFERRED]
    (directory / "users").write_text("".join(lines))
    return [dovecot, "-F", "-c", str(config)]


@contextmanager
def _dovecot_auth(directory: Path) -> Iterator[None]:
    command = _dovecot_config(directory, _DOVECOT_AUTH, "no")
    with process(command, directory, lambda: (directory / "auth").exists()):
        yield


@contextmanager
def _dovecot(directory: Path, port: int, tls_port: int) -> Iterator[MailServer]:
    if not Path("/usr/lib/dovecot/lmtp").exists():
        pytest.skip("dovecot-lmtpd is not installed")

    ca, chain, key = certify(directory)
    command = _dovecot_config(directory, _DOVECOT_LMTP, "yes", chain=chain, key=key, port=port)
    with process(command, directory, lambda: accepts(port)):
        yield MailServer(
            "dovecot",
            directory,
            port,
            ca,
            lmtp=True,
            offers=frozenset({"PIPELINING", "STARTTLS", "CHUNKING", "8BITMIME"}),
            logs=[directory / "log", directory / "output"],
        )


_SERVERS: Final = {"postfix": _postfix, "exim4": _exim, "opensmtpd": _opensmtpd, "dovecot": _dovecot}
NAMES: Final = tuple(_SERVERS)
