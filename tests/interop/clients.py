"""Real mail clients, each as a command that sends one message file.

The clients that are libraries are called by the small programs in `programs/`, which get a job in the environment.
A test is skipped, with the reason, if its client is not available.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote

import pytest

from tests.interop.servers import USER

TIMEOUT: Final = 60.0
SENDER: Final = "a@client.example"
TOKEN: Final = "eyJhbGci.eyJzdWIi.c2ln+/=="
"""A bearer token, with the characters of RFC 6750 section 2.1 that need an escape elsewhere."""
TOKENS: Final = ("OAUTHBEARER", "XOAUTH2")
"""The mechanisms that send a token."""
HELO: Final = "client.example"
PROGRAMS: Final = Path(__file__).parent / "programs"

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
NODE_MODULES: Final = Path(os.environ.get("SMTPCORE_CLIENTS") or _CACHE / "smtpcore" / "clients") / "node_modules"
"""Directory into which `.ci/clients` installs the packages of Node.js."""
_JAVA_CLASSES: Final = "/usr/share/java/javax.mail.jar"
_PHPMAILER: Final = "/usr/share/php/libphp-phpmailer/autoload.php"


@dataclass(frozen=True)
class Job:
    """A message to send, and how to send it."""

    port: int
    file: Path
    """The file of the message, with a header."""
    directory: Path
    """A directory for the files of the client, such as its home directory."""
    build: Path
    """A directory for compiled programs, which all test processes share."""
    recipients: tuple[str, ...]
    sender: str = SENDER
    tls: str = "none"
    """`none`, `starttls` or `implicit`."""
    ca: Path | None = None
    mechanism: str = ""
    """The SASL mechanism of the login; an empty string means no login."""
    secret: str = ""
    """The password, or the token for a mechanism in `TOKENS`."""
    certificate: tuple[Path, Path] | None = None
    """The files of the certificate of the client and of its key."""
    lmtp: bool = False
    bdat: int = 0
    """Octets of each chunk, for a client that uses BDAT; 0 means DATA."""
    pipelining: bool = False
    debug: tuple[str, ...] = ()
    """The options with which the client shows the dialogue, or the debug level of a library."""

    def environment(self) -> dict[str, str]:
        """Return the variables that the programs in `programs/` read."""
        return {
            "MAIL_HOST": "localhost",
            "MAIL_PORT": str(self.port),
            "MAIL_HELO": HELO,
            "MAIL_FROM": self.sender,
            "MAIL_TO": " ".join(self.recipients),
            "MAIL_FILE": str(self.file),
            "MAIL_TLS": self.tls,
            "MAIL_CA": str(self.ca or ""),
            "MAIL_MECHANISM": self.mechanism,
            "MAIL_USER": USER,
            "MAIL_PASSWORD": self.secret,
            "MAIL_LMTP": "1" if self.lmtp else "",
            "MAIL_DEBUG": " ".join(self.debug),
            "MAIL_BDAT": str(self.bdat or ""),
        }

    def text(self) -> bytes:
        """Return the body of the message with LF line ends, for clients that write the header on their own."""
        return self.file.read_bytes().replace(b"\r\n", b"\n").partition(b"\n\n")[2]

    def subject(self) -> str:
        """Return the subject of the message."""
        (line,) = [line for line in self.file.read_bytes().splitlines() if line.startswith(b"Subject: ")]
        return line.decode()[9:]


@dataclass(frozen=True)
class Command:
    """A command line to run, with its input and further environment variables."""

    arguments: list[str]
    stdin: bytes = b""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class MailClient:
    """A real client and its abilities."""

    name: str
    command: Callable[[Job], Command]
    composes: bool = False
    """Whether the client writes a header and an encoding of its own, so that only the decoded text can be compared."""
    sends: Callable[[bytes], bytes] = lambda message: _complete(message)
    """A function that returns the octets that the client sends for the content of a file, before any dots are added."""
    sends_in_chunks: Callable[[bytes], bytes] = lambda message: message
    """The same for BDAT."""
    mechanisms: tuple[str, ...] = ()
    hides_login_replies: bool = False
    """Whether the client reports only that the login failed, without the reply of the server."""
    can: frozenset[str] = frozenset()
    """Further abilities: `LMTP`, `BDAT`, `SMTPUTF8`, `PIPELINING`."""

    def __repr__(self) -> str:
        return self.name

    def send(self, job: Job) -> "subprocess.CompletedProcess[bytes]":
        """Send a message. The result has the exit status, and the output that a user sees."""
        command = self.command(job)
        return subprocess.run(
            command.arguments,
            input=command.stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=job.directory,
            # A locale with UTF-8 on every machine, and no settings of the user.
            env={**os.environ, "LC_ALL": "C.UTF-8", "HOME": str(job.directory), "TERM": "dumb", **command.environment},
            timeout=TIMEOUT,
            check=False,
        )


def program(name: str) -> str:
    """Return the path of a program. Skips the test if the program is missing."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"{name} is not installed")

    return path


def _needs(path: str, reason: str) -> None:
    if not Path(path).exists():
        pytest.skip(reason)


def _needs_perl(*modules: str) -> None:
    if subprocess.run(["perl", *(f"-M{name}" for name in modules), "-e1"], capture_output=True, check=False).returncode:
        pytest.skip(f"the Perl modules {', '.join(modules)} are not installed")


def _build(job: Job, source: Path, compile_into: Callable[[Path], list[str]]) -> Path:
    """Compile a program once for all test processes. Return the path of the result."""
    target = job.build / f"{source.stem}-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}"
    with (job.build / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            subprocess.run(compile_into(target), check=True, capture_output=True, timeout=TIMEOUT)

    return target


def _complete(message: bytes) -> bytes:
    """Return a message with CR LF as each line end, also of the last line."""
    lines = message.replace(b"\r\n", b"\n")
    return (lines if lines.endswith(b"\n") else lines + b"\n").replace(b"\n", b"\r\n")


# Programs with a command line


def _sent_by_swaks(message: bytes) -> bytes:
    # The file may end in the dot that ends the data.
    return _complete(re.sub(rb"\r?\n\.\r?\n?\Z", b"", message) + b"\r\n")


def _sent_by_curl(message: bytes) -> bytes:
    # curl compares the last two octets with CR LF, and sends files with LF as they are.
    return _complete(message if message.endswith(b"\r\n") else message + b"\r\n")


def _swaks(job: Job) -> Command:
    swaks = program("swaks")
    _needs_perl(*(["Net::SSLeay"] if job.tls != "none" else []), *(["Digest::MD5"] if job.mechanism else []))
    arguments = ["--server", f"127.0.0.1:{job.port}", "--helo", HELO, "--data", f"@{job.file}"]
    arguments += ["--from", job.sender, "--to", ",".join(job.recipients)]
    arguments += {"none": [], "starttls": ["--tls"], "implicit": ["--tls-on-connect"]}[job.tls]
    if job.ca:
        arguments += ["--tls-verify", "--tls-ca-path", str(job.ca)]
    if job.mechanism:
        arguments += ["--auth", job.mechanism, "--auth-user", USER, "--auth-password", job.secret]
    if job.lmtp:
        arguments += ["--protocol", "LMTP"]
    if job.pipelining:
        arguments += ["--pipeline"]
    return Command([swaks, *arguments, *job.debug])


def _curl(job: Job) -> Command:
    curl = program("curl")
    scheme = "smtps" if job.tls == "implicit" else "smtp"
    # Without -v, curl reports only the code of a refusal.
    arguments = ["-sS", *(job.debug or ["-v"]), f"{scheme}://localhost:{job.port}/{HELO}", "-T", str(job.file)]
    arguments += ["--mail-from", job.sender]
    for recipient in job.recipients:
        arguments += ["--mail-rcpt", recipient]
    if job.tls == "starttls":
        arguments += ["--ssl-reqd"]
    if job.ca:
        arguments += ["--cacert", str(job.ca)]
    if job.mechanism:
        secret = "" if job.mechanism in ("EXTERNAL", *TOKENS) else job.secret
        arguments += ["--user", f"{USER}:{secret}", "--login-options", f"AUTH={job.mechanism}"]
    if job.mechanism in TOKENS:
        arguments += ["--oauth2-bearer", job.secret]
    if job.certificate:
        arguments += ["--cert", str(job.certificate[0]), "--key", str(job.certificate[1])]
    return Command([curl, *arguments])


def _msmtp(job: Job) -> Command:
    msmtp = program("msmtp")
    arguments = [*job.debug, "-C", "/dev/null", "--host=localhost", f"--port={job.port}", f"--from={job.sender}"]
    arguments += [f"--domain={HELO}", f"--protocol={'lmtp' if job.lmtp else 'smtp'}"]
    if job.tls == "none":
        arguments += ["--tls=off"]
    else:
        arguments += ["--tls=on", f"--tls-trust-file={job.ca}"]
        arguments += [f"--tls-starttls={'on' if job.tls == 'starttls' else 'off'}"]
    if job.mechanism:
        arguments += [f"--auth={job.mechanism.lower()}", f"--user={USER}", f"--passwordeval=echo '{job.secret}'"]
    if job.certificate:
        arguments += [f"--tls-cert-file={job.certificate[0]}", f"--tls-key-file={job.certificate[1]}"]
    return Command([msmtp, *arguments, "--", *job.recipients], stdin=job.file.read_bytes().replace(b"\r\n", b"\n"))


def _s_nail(job: Job) -> Command:
    s_nail = program("s-nail")
    login = f"{USER}:{quote(job.secret, safe='')}@" if job.mechanism else ""
    scheme = "smtps" if job.tls == "implicit" else "smtp"
    settings = {
        "v15-compat": "yes",
        "mta": f"{scheme}://{login}localhost:{job.port}",
        "hostname": HELO,
        "from": job.sender,
        "ttycharset": "utf-8",
        "sendwait": "",
        # The name of XOAUTH2 in s-nail 14.9 is oauthbearer.
        "smtp-auth": job.mechanism.lower().replace("xoauth2", "oauthbearer") or "none",
        "tls-verify": "strict",
        "tls-ca-flags": "",
        "tls-ca-no-defaults": "",
        **(
            {"tls-config-pairs": f"Certificate={job.certificate[0]},PrivateKey={job.certificate[1]}"}
            if job.certificate
            else {}
        ),
        **({"smtp-use-starttls": ""} if job.tls == "starttls" else {}),
        **({"tls-ca-file": str(job.ca)} if job.ca else {}),
    }
    arguments = [
        "-:/",
        "-S",
        "nosave",
        *(item for name, value in settings.items() for item in ("-S", f"{name}={value}")),
    ]
    return Command([s_nail, *arguments, "-s", job.subject(), "-r", job.sender, *job.recipients], stdin=job.text())


def _mutt(job: Job) -> Command:
    mutt = program("mutt")
    login = f"{USER}@" if job.mechanism else ""
    scheme = "smtps" if job.tls == "implicit" else "smtp"
    settings = {
        "smtp_url": f"{scheme}://{login}localhost:{job.port}",
        "smtp_pass": job.secret,
        "smtp_oauth_refresh_command": f"echo {job.secret}",
        "smtp_authenticators": job.mechanism.lower(),
        "ssl_starttls": "yes" if job.tls == "starttls" else "no",
        "ssl_force_tls": "yes" if job.tls == "starttls" else "no",
        "certificate_file": str(job.directory / "certificates"),
        "ssl_ca_certificates_file": str(job.ca or "/dev/null"),
        "from": job.sender,
        "use_envelope_from": "yes",
        "hostname": HELO,
        "allow_8bit": "yes",
        "record": "",
        "copy": "no",
        "charset": "utf-8",
    }
    arguments = [item for name, value in settings.items() for item in ("-e", f'set {name}="{value}"')]
    arguments += ["-s", job.subject(), "--", *job.recipients]
    return Command([mutt, "-n", "-F", "/dev/null", *arguments], stdin=job.text())


# Libraries


def _perl(job: Job) -> Command:
    perl = program("perl")
    tls = ["IO::Socket::SSL"] if job.tls != "none" else []
    _needs_perl("Net::SMTP", "Authen::SASL", *tls, *(["Digest::HMAC_MD5"] if job.mechanism == "CRAM-MD5" else []))
    return Command([perl, str(PROGRAMS / "net_smtp.pl")], environment=job.environment())


def _ruby(job: Job) -> Command:
    return Command([program("ruby"), str(PROGRAMS / "net_smtp.rb")], environment=job.environment())


def _phpmailer(job: Job) -> Command:
    php = program("php")
    _needs(_PHPMAILER, "PHPMailer is not installed")
    return Command([php, str(PROGRAMS / "phpmailer.php")], environment=job.environment())


def _nodemailer(job: Job) -> Command:
    node = program("node")
    _needs(str(NODE_MODULES / "nodemailer"), "nodemailer is not installed by .ci/clients")
    environment = {**job.environment(), "NODE_PATH": str(NODE_MODULES)}
    return Command([node, str(PROGRAMS / "nodemailer.js")], environment=environment)


def _java(job: Job) -> Command:
    java, javac = program("java"), program("javac")
    _needs(_JAVA_CLASSES, "the mail API of Java is not installed")
    source = PROGRAMS / "JavaMail.java"
    classes = _build(job, source, lambda target: [javac, "-cp", _JAVA_CLASSES, "-d", str(target), str(source)])
    # Options that make a short program start faster.
    quick = ["-Xshare:auto", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    return Command([java, *quick, "-cp", f"{classes}:{_JAVA_CLASSES}", "JavaMail"], environment=job.environment())


def _go(job: Job) -> Command:
    go = program("go")
    source = PROGRAMS / "go_smtp.go"
    executable = _build(job, source, lambda target: [go, "build", "-o", str(target), str(source)])
    return Command([str(executable)], environment=job.environment())


_SCRAM: Final = ("SCRAM-SHA-1", "SCRAM-SHA-256")

_PASSWORD: Final = ("PLAIN", "LOGIN", "CRAM-MD5")

CLIENTS: Final = {
    client.name: client
    for client in (
        MailClient("swaks", _swaks, sends=_sent_by_swaks, mechanisms=_PASSWORD, can=frozenset({"LMTP", "PIPELINING"})),
        MailClient(
            "curl",
            _curl,
            sends=_sent_by_curl,
            mechanisms=(*_PASSWORD, "EXTERNAL", *TOKENS),
            can=frozenset({"SMTPUTF8"}),
        ),
        MailClient(
            "msmtp",
            _msmtp,
            mechanisms=(*_PASSWORD, *_SCRAM, "EXTERNAL", *TOKENS),
            can=frozenset({"LMTP", "PIPELINING"}),
        ),
        MailClient("s-nail", _s_nail, composes=True, mechanisms=(*_PASSWORD, "EXTERNAL", "XOAUTH2")),
        MailClient(
            "mutt",
            _mutt,
            composes=True,
            mechanisms=(*_PASSWORD, *_SCRAM, *TOKENS),
            hides_login_replies=True,
            can=frozenset({"SMTPUTF8"}),
        ),
        MailClient("PHPMailer", _phpmailer, composes=True, mechanisms=_PASSWORD, hides_login_replies=True),
        MailClient(
            "java",
            _java,
            # The mail API of Java 1.6.5 doubles dots at the start of lines in BDAT too, against RFC 3030.
            sends_in_chunks=lambda message: _complete(message).replace(b"\n.", b"\n.."),
            mechanisms=("PLAIN", "LOGIN", "XOAUTH2"),
            can=frozenset({"BDAT", "SMTPUTF8"}),
        ),
        MailClient("go", _go, mechanisms=("PLAIN", "CRAM-MD5"), can=frozenset({"SMTPUTF8"})),
        MailClient("nodemailer", _nodemailer, mechanisms=(*_PASSWORD, "XOAUTH2"), can=frozenset({"LMTP", "SMTPUTF8"})),
        MailClient("perl", _perl, mechanisms=_PASSWORD, can=frozenset({"BDAT"})),
        MailClient("ruby", _ruby, mechanisms=_PASSWORD),
    )
}
