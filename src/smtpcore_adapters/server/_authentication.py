"""Run one SASL exchange between a client and the program's `auth` handlers."""

from collections.abc import Awaitable, Callable

from smtpcore import Auth, Config, LocalProtocolError, Reply
from smtpcore.sasl import Accepted, Answer, Challenge, Channel, ChannelBinding, Question, Rejected, make_server

from ..tls._info import Tls


def make_channel(tls: Tls | None, config: Config) -> Channel:
    """What the mechanisms have to know of a connection."""
    # A client that knows of bindings, and sees no -PLUS mechanism, would take it for an attack that there are some.
    binds = any(name.endswith("-PLUS") for name in config.auth_mechanisms)
    return Channel(
        tls=tls is not None,
        host=config.hostname,
        external=tls.subject if tls else None,
        bindings=tls.bindings if tls and binds else (),
    )


async def authenticate(
    auth: Auth,
    channel: Channel,
    *,
    challenge: Callable[[bytes], Awaitable[bytes | None]],
    ask: Callable[[Question], Awaitable[Answer | Reply]],
) -> Accepted | Reply | None:
    """Find out who the client is: `Accepted`, or a reply that says no, or None where the client has broken off.

    `challenge` sends a challenge and returns the response, None if there is none. `ask` answers a question, or decides
    at once with a reply. Raises `LocalProtocolError` if its answer is of a wrong type.
    """
    mechanism = make_server(auth.mechanism, channel)
    step = mechanism.start(auth.initial_response)
    while not isinstance(step, Accepted):
        if isinstance(step, Rejected):
            # The client is told no more than that (RFC 4954 section 6): the reason is for the log.
            text = "Authentication failed" if step.reason.code == 535 else "Malformed authentication"
            return Reply(step.reason.code, text, enhanced=step.reason.enhanced)

        if isinstance(step, Challenge):
            response = await challenge(step.data)
            if response is None:
                return None

            step = mechanism.respond(response)
        else:
            answer = await ask(step)
            if isinstance(answer, Reply):
                return answer

            step = mechanism.answer(answer)

    return step


def check_mechanisms(names: tuple[str, ...]) -> None:
    """Raise `LocalProtocolError` for a mechanism that `smtpcore.sasl` does not have."""
    for name in names:
        if name != name.upper():
            raise LocalProtocolError(f"{name!r} is not the name of a SASL mechanism: use capitals")

        make_server(name, _ANY_CHANNEL)


_ANY_CHANNEL = Channel(tls=True, bindings=(ChannelBinding("tls-server-end-point", b"any"),))
