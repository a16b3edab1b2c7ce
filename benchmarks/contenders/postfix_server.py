"""Postfix as a benchmark server: `python -m benchmarks.contenders.postfix_server PORT CHAIN KEY`.

Configuration, queue and data are in a temporary directory. All messages are delivered to `discard`.
"""

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

MASTER = "/usr/lib/postfix/sbin/master"

MAIN_CF = """
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
mail_owner = postfix
maillog_file = {directory}/log/postfix
maillog_file_prefixes = {directory}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.example.org
mydestination =
mynetworks =
alias_maps =
local_recipient_maps =
default_database_type = texthash
relay_domains = example.org
relay_recipient_maps =
default_transport = discard
relay_transport = discard
message_size_limit = 1000000000
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtpd_recipient_restrictions = reject_unauth_destination
smtpd_tls_cert_file = {chain}
smtpd_tls_key_file = {key}
"""

SERVICES = """\
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""
"""The lines of master.cf for the services that every Postfix needs, and for `discard`."""
MASTER_CF = "127.0.0.1:{port} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes\n" + SERVICES

QUEUES = ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "saved", "trace")
OF_POSTFIX = ("data", *(f"queue/{name}" for name in (*QUEUES, "private", "public", "maildrop")))
"""The directories that belong to the user postfix."""


def main() -> None:
    """Run Postfix until SIGTERM."""
    port, chain, key = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        for each in ("conf", "log", "queue/pid", *OF_POSTFIX):
            (directory / each).mkdir(parents=True)
        for each in OF_POSTFIX:
            shutil.chown(directory / each, "postfix")
        (directory / "conf/main.cf").write_text(MAIN_CF.format(directory=directory, chain=chain, key=key))
        (directory / "conf/master.cf").write_text(MASTER_CF.format(port=port))
        with subprocess.Popen([MASTER, "-c", str(directory / "conf"), "-d"]) as master:
            try:
                master.wait()
            finally:
                master.terminate()


if __name__ == "__main__":
    main()
