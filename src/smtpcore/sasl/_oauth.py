"""OAUTHBEARER (RFC 7628) and XOAUTH2: log in with a token from an OAuth server."""

#     OAUTHBEARER   n,a=user@example.com,^A host=server.example.com^A port=587^A auth=Bearer token^A ^A
#     XOAUTH2       user=user@example.com^A auth=Bearer token^A ^A
#
# (without the spaces; ^A is the octet 1). XOAUTH2 is older and was never standardized; Google and Microsoft document
# it. The two mechanisms differ in their first field, and in the client's response to a refusal.
#
# A refusal takes a further round, because SASL cannot send the reason with the outcome (RFC 4422 3.6): the server sends
# a JSON object as a challenge, the client sends a response without meaning, and then the outcome follows.

import json
import re
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from ._mechanism import MAX_NAME, ClientMechanism, Exchange, Refusal, Responses, ServerMechanism, decode, first_response
from ._saslname import SASLNAME, escape, unescape
from ._steps import Challenge, CheckToken, Reason, Rejected, TokenError

_SEPARATOR = "\x01"

# RFC 7628 3.1. The flag for channel binding is never "p": these mechanisms have none.
_match_header = re.compile(rf"[ny],(?:a=({SASLNAME}))?,").fullmatch
_match_pair = re.compile(r"([A-Za-z]+)=([\t\n\r -~]*)").fullmatch
_match_bearer = re.compile(r"bearer +([!-~]+)", re.IGNORECASE).fullmatch  # RFC 7628 section 4: in any letter case
_match_port = re.compile(r"[1-9][0-9]{0,4}").fullmatch


class _TokenServer(ServerMechanism):
    """Base class of the server's ends of both mechanisms."""

    malformed: ClassVar[TokenError]
    """The error for a client that breaks the grammar."""
    invalid: ClassVar[TokenError]
    """The error for a token that your program refuses with None."""

    def exchange(self, initial_response: bytes | None) -> Exchange:
        """Run the exchange of RFC 7628 section 3."""
        message = yield from first_response(initial_response)
        # RFC 7628 3.1: this is the response to an error, so it is not valid as a first message.
        if message == _SEPARATOR.encode():
            return Rejected(Reason.INVALID_CREDENTIALS)

        question = self._parse(message)
        if isinstance(question, TokenError):
            return (yield from self._refuse(question))

        identity: str | TokenError | None = yield question
        if not isinstance(identity, str) or not identity:
            return (yield from self._refuse(identity or self.invalid))

        return (yield from self.authorize(identity, question.username))

    @abstractmethod
    def take_username(self, fields: list[str]) -> str | None:
        """Take the user name out of `fields` and leave only key=value pairs. Raises `ValueError`."""

    def _parse(self, message: bytes) -> CheckToken | TokenError:
        try:
            username, pairs = self._take_apart(decode(message))
            port = _parse_port(pairs.get("port"))
        except (ValueError, Refusal):
            return self.malformed

        # RFC 7628 4.3: a client may leave out the token, so that the error says how to get a token.
        bearer = _match_bearer(pairs.get("auth", ""))
        return CheckToken(username, bearer[1], pairs.get("host"), port) if bearer else self.invalid

    def _take_apart(self, text: str) -> tuple[str | None, Mapping[str, str]]:
        if not text.endswith(_SEPARATOR * 2):
            raise ValueError("the message does not end with two separators")

        fields = text[:-2].split(_SEPARATOR)
        username = self.take_username(fields)
        pairs: dict[str, str] = {}
        for field in fields:
            pair = _match_pair(field)
            if pair is None or pair[1] in pairs:
                raise ValueError("a field is not a pair of key and value, or occurs twice")
            pairs[pair[1]] = pair[2]  # RFC 7628 3.1: unknown keys are ignored

        if username is None:
            return None, pairs
        if len(username.encode()) > MAX_NAME:
            raise ValueError("the name is too long")

        return self.prepare_username(username), pairs

    def _refuse(self, error: TokenError) -> Exchange:
        yield Challenge(error.encode())
        return Rejected(Reason.INVALID_CREDENTIALS)  # RFC 7628 3.2.3: after any response of the client


class OAuthBearerServer(_TokenServer):
    """The server's end of OAUTHBEARER. Your program answers `CheckToken`."""

    malformed: ClassVar[TokenError] = TokenError("invalid_request")
    invalid: ClassVar[TokenError] = TokenError("invalid_token")

    def take_username(self, fields: list[str]) -> str | None:
        """Remove the GS2 header from `fields`, and return the user name in the header, or None."""
        header = _match_header(fields.pop(0))
        if header is None:
            raise ValueError("the message does not begin with a GS2 header")

        return header[1] and unescape(header[1])


class XOAuth2Server(_TokenServer):
    """The server's end of XOAUTH2. Your program answers `CheckToken`."""

    malformed: ClassVar[TokenError] = TokenError("400")
    invalid: ClassVar[TokenError] = TokenError("401")

    def take_username(self, fields: list[str]) -> str | None:
        """Remove the first field of `fields`, and return the user name in it."""
        key, _, username = fields.pop(0).partition("=")
        if key != "user" or not username:
            raise ValueError("the message does not begin with a user")

        return username


class _TokenClient(ClientMechanism):
    """Base class of the client's ends of both mechanisms."""

    acknowledgment: ClassVar[bytes]
    """The client's response to an error."""

    token_error: TokenError | None = None
    """The complete error from the server, if it refused the token."""

    def respond_after_last(self, challenge: bytes) -> bytes:
        """Store the error with which the server refuses the token, and return the response to the error."""
        if self.token_error:
            self.distrust("sent another challenge after the error")

        self.token_error = _parse_error(challenge)
        self.error: str | None = self.token_error.status
        return self.acknowledgment


class OAuthBearerClient(_TokenClient):
    """The client's end of OAUTHBEARER."""

    needs: ClassVar[tuple[str, ...]] = ("token",)
    can_act_for_others = True
    acknowledgment = b"\x01"

    def exchange(self) -> Responses:
        """Run the exchange of RFC 7628 3.1."""
        name = self.credentials.authorization or self.credentials.username
        pairs = {"host": self.channel.host, "port": self.channel.port, "auth": f"Bearer {self.credentials.token}"}
        fields = [f"n,{f'a={escape(name)}' if name else ''},"]
        fields += [f"{key}={value}" for key, value in pairs.items() if value is not None]
        yield from ()  # without a refusal the exchange has a single message
        return _SEPARATOR.join([*fields, "", ""]).encode()


class XOAuth2Client(_TokenClient):
    """The client's end of XOAUTH2."""

    needs: ClassVar[tuple[str, ...]] = ("username", "token")
    acknowledgment = b""

    def exchange(self) -> Responses:
        """Run the exchange as Google and Microsoft document it."""
        yield from ()  # without a refusal the exchange has a single message
        return f"user={self.credentials.username}\x01auth=Bearer {self.credentials.token}\x01\x01".encode()


def _parse_port(text: str | None) -> int | None:
    if text is None:
        return None
    if not _match_port(text):
        raise ValueError("the port is not a number")

    return int(text)


def _parse_error(challenge: bytes) -> TokenError:
    # A challenge that is not valid JSON still means a refusal.
    try:
        members: dict[str, object] = dict(json.loads(challenge))
    except (ValueError, TypeError, RecursionError):
        members = {}

    texts = {key: value for key, value in members.items() if key in _MEMBERS and isinstance(value, str)}
    others = {key: value for key, value in members.items() if key not in texts}
    return TokenError(texts.get("status", "unknown"), texts.get("scope"), texts.get("openid-configuration"), others)


_MEMBERS = ("status", "scope", "openid-configuration")
