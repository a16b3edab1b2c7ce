"""Clients of a server that runs as a process."""

import smtplib
import ssl

from tests.adapters.command import TIMEOUT, Running


def connect(server: Running, address: str = "127.0.0.1") -> smtplib.SMTP:
    return smtplib.SMTP("127.0.0.1", server.port, "client.example", timeout=TIMEOUT, source_address=(address, 0))


def send(server: Running, message: bytes = b"Subject: hello\r\n\r\nbody\r\n", to: str = "b@example.org") -> None:
    with connect(server) as smtp:
        smtp.sendmail("a@client.example", [to], message)


def client_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
