"""Twisted as a benchmark server: `python -m benchmarks.contenders.twisted_server PORT`."""

import sys
from collections.abc import Callable
from typing import Any

from twisted.internet import defer, reactor
from twisted.mail import smtp
from zope.interface import implementer


@implementer(smtp.IMessage)
class Message:
    def lineReceived(self, line: bytes) -> None:  # noqa: N802 - Twisted's name
        pass

    def eomReceived(self) -> Any:  # noqa: N802 - Twisted's name
        return defer.succeed(None)

    def connectionLost(self) -> None:  # noqa: N802 - Twisted's name
        pass


@implementer(smtp.IMessageDelivery)
class Delivery:
    def receivedHeader(self, _helo: Any, _origin: Any, _recipients: Any) -> bytes:  # noqa: N802 - Twisted's name
        return b""

    def validateFrom(self, _helo: Any, origin: Any) -> Any:  # noqa: N802 - Twisted's name
        return origin

    def validateTo(self, _user: Any) -> Callable[[], Message]:  # noqa: N802 - Twisted's name
        return Message


class Factory(smtp.SMTPFactory):
    protocol = smtp.ESMTP

    def buildProtocol(self, address: Any) -> Any:  # noqa: N802 - Twisted's name
        protocol = super().buildProtocol(address)
        protocol.delivery = Delivery()
        protocol.host = b"mx.example.org"
        return protocol


def main() -> None:
    factory = Factory()
    factory.noisy = False
    loop: Any = reactor
    loop.listenTCP(int(sys.argv[1]), factory, backlog=1_024, interface="127.0.0.1")
    loop.run()


if __name__ == "__main__":
    main()
