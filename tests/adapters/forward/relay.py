"""A session that forwards its mail to scripted servers."""

import ssl
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from smtpcore import EXTENSIONS, Config
from smtpcore_adapters import Address, App, TlsMode
from smtpcore_adapters.forward import Forward
from tests.adapters.fakes import CONFIG, DATA, EHLO, MAIL, RCPT, Step
from tests.adapters.playbook import ACCEPTED, ScriptedServer, next_server, session
from tests.playbook import GO_AHEAD

OK = b"250 2.1.0 ok\r\n"  # has an enhanced status code, which the relay has to keep
TWO = b"RCPT TO:<v@s.example>\r\n"
BODY = b"Subject: hi\r\n\r\n..text\r\n"
ALL_EXTENSIONS = replace(CONFIG, disabled=frozenset({"BURL"}))
LMTP = replace(CONFIG, lmtp=True)
LHLO = EHLO.replace(b"EHLO", b"LHLO")


def forwarding(**options: Any) -> Forward:
    """Return a `Forward` to a scripted server, by default without TLS."""
    return Forward("hop.example", 2525, **{"hostname": "relay.example", "tls": TlsMode.NONE, **options})


class Relay:
    """A session that forwards its mail to scripted servers."""

    def __init__(
        self,
        *script: Step,
        next_servers: Sequence[ScriptedServer | OSError],
        config: Config = CONFIG,
        app: App | None = None,
        server_tls: ssl.SSLContext | None = None,
        peer: Address | None = None,
        **options: Any,
    ) -> None:
        self.app = app or App()
        self.app.include(forwarding(**options))
        extensions = options.get("extensions", EXTENSIONS)
        self.dialogue = session(self.app, config=config, tls=server_tls, peer=peer, extensions=extensions)
        for each in next_servers:
            self.dialogue.stream.opened_streams.append(each.stream if isinstance(each, ScriptedServer) else each)
        self.dialogue.send(*script).end()

    @property
    def codes(self) -> list[str]:
        """The replies, each as its code and its enhanced status code."""
        words = [reply.split(" ", 2) for reply in self.dialogue.replies[2:]]
        return [" ".join(word[:2]) if word[1:] and word[1].count(".") == 2 else word[0] for word in words]

    @property
    def last(self) -> str:
        return self.dialogue.replies[-1]


def commands(hop: ScriptedServer) -> list[bytes]:
    """Return the octets that the relay wrote to the next server, without EHLO, LHLO and QUIT."""
    return [line for line in hop.sent if not line.startswith((b"EHLO", b"LHLO", b"QUIT"))]


def relay_one(*keywords: str, mail: bytes = MAIL, rcpt: bytes = RCPT, **options: Any) -> tuple[list[str], list[bytes]]:
    """Forward one message to a server that offers `keywords` and accepts it."""
    chunks = "CHUNKING" in keywords
    hop = next_server(*keywords).send(OK, OK, *([] if chunks else [GO_AHEAD]), ACCEPTED)
    relay = Relay(EHLO + mail + rcpt + DATA, BODY + b".\r\n", next_servers=[hop], trace=False, **options)
    return relay.codes, commands(hop)
