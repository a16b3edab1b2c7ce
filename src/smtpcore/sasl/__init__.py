r"""SASL for both ends of SMTP's AUTH command, without I/O (RFC 4422, RFC 4954).

A mechanism object serves one exchange. On the server's side each call returns the next step:

    mechanism = make_server("PLAIN", Channel(tls=True))
    step = mechanism.start(b"\0tim\0tanstaaftanstaaf")
    while True:
        match step:
            case Challenge(data):
                step = mechanism.respond(...)  # send 334 with data, and wait for the response
            case CheckPassword(username):
                step = mechanism.answer(step.matches(passwords.get(username)))
            case Accepted(identity):
                break  # 235
            case Rejected(reason):
                break  # reason.code, reason.enhanced
            case _:
                step = mechanism.answer(None)  # None refuses: this program has no answer to the question

`ServerExchange` does this for a `Connection`: it takes the events of AUTH, and returns the questions and the replies.

On the client's side the object responds to challenges. `finish` raises if the server skipped a required proof:

    mechanism = make_client(choose(offered, credentials, channel), credentials, channel)
    mechanism.initial()  # send it with the command, unless it is None
    mechanism.respond(challenge)  # for each 334
    mechanism.finish()  # on 235

Messages are octets. The connection handles their form in SMTP: base64, `=` and `*`.
"""

from .._help import show_texts
from ._anonymous import ANONYMOUS_IDENTITY, AnonymousClient, AnonymousServer
from ._context import DEFAULT_POLICY, PLAINTEXT, Channel, ChannelBinding, Credentials, Policy
from ._cram import CramClient, CramServer
from ._external import ExternalClient, ExternalServer
from ._keys import ScramKeys, scram_keys
from ._mechanism import MAX_MESSAGE, MAX_NAME, ClientMechanism, Exchange, Refusal, Responses, ServerMechanism
from ._oauth import OAuthBearerClient, OAuthBearerServer, XOAuth2Client, XOAuth2Server
from ._plain import LoginClient, LoginServer, PlainClient, PlainServer
from ._scram import ScramClient, ScramServer
from ._server import ServerExchange
from ._steps import (
    Accepted,
    Answer,
    Challenge,
    CheckAnonymous,
    CheckAuthorization,
    CheckIdentity,
    CheckPassword,
    CheckToken,
    GivePassword,
    GiveScramKeys,
    Outcome,
    Question,
    Reason,
    Rejected,
    Step,
    TokenError,
)
from ._stringprep import saslprep
from ._table import MECHANISMS, Mechanism, choose, make_client, make_server, offer

__all__ = [
    "ANONYMOUS_IDENTITY",
    "DEFAULT_POLICY",
    "MAX_MESSAGE",
    "MAX_NAME",
    "MECHANISMS",
    "PLAINTEXT",
    "Accepted",
    "AnonymousClient",
    "AnonymousServer",
    "Answer",
    "Challenge",
    "Channel",
    "ChannelBinding",
    "CheckAnonymous",
    "CheckAuthorization",
    "CheckIdentity",
    "CheckPassword",
    "CheckToken",
    "ClientMechanism",
    "CramClient",
    "CramServer",
    "Credentials",
    "Exchange",
    "ExternalClient",
    "ExternalServer",
    "GivePassword",
    "GiveScramKeys",
    "LoginClient",
    "LoginServer",
    "Mechanism",
    "OAuthBearerClient",
    "OAuthBearerServer",
    "Outcome",
    "PlainClient",
    "PlainServer",
    "Policy",
    "Question",
    "Reason",
    "Refusal",
    "Rejected",
    "Responses",
    "ScramClient",
    "ScramKeys",
    "ScramServer",
    "ServerExchange",
    "ServerMechanism",
    "Step",
    "TokenError",
    "XOAuth2Client",
    "XOAuth2Server",
    "choose",
    "make_client",
    "make_server",
    "offer",
    "saslprep",
    "scram_keys",
]

show_texts(globals())
