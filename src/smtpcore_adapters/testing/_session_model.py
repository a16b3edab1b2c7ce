"""The state of a session as RFC 5321 requires it, computed from the commands of a client and the server's replies."""

# The model reads the server's own replies, so every refusal by policy is allowed. The model objects only to replies
# that are wrong in any server: a command out of sequence that is accepted, or a command in sequence that gets 503.

from dataclasses import dataclass, field

BAD_SEQUENCE = frozenset({503})
WITHOUT_RECIPIENTS = frozenset({503, 554})
UNDER_TLS = frozenset({501, 502, 503, 504})
FREE: frozenset[int] = frozenset()
"""No objection: the server decides."""

Message = tuple[bytes, tuple[bytes, ...], bytes]
"""The sender and the recipients without brackets, and the octets."""


@dataclass
class SessionModel:
    """The state that the RFCs require a server to keep."""

    lmtp: bool = False
    """Whether the protocol is LMTP (RFC 2033)."""
    refuses: bool = False
    """Whether the greeting was negative: RFC 5321 3.1 then allows only QUIT."""
    hello: bool = False
    """Whether EHLO, HELO or LHLO was accepted."""
    sender: bytes | None = None
    """The accepted sender; None without a transaction."""
    recipients: list[bytes] = field(default_factory=list)
    """The accepted recipients."""
    chunks: bytes | None = None
    """The accepted chunks of the body (RFC 3030); None before the first chunk."""
    spoiled: bool = False
    """Whether a chunk was refused, so that RSET must follow (RFC 3030 section 2)."""
    authenticated: bool = False
    """Whether AUTH has succeeded (RFC 4954)."""
    tls: bool = False
    """Whether the session is under TLS."""
    over: bool = False
    """Whether the server has closed the session with QUIT or 421."""

    @property
    def has_body(self) -> bool:
        """Whether the body has begun with BDAT."""
        return self.chunks is not None or self.spoiled

    @property
    def is_body_without_reply(self) -> bool:
        """Whether BDAT LAST gets no reply: in LMTP, the end of a body has a reply for each recipient (RFC 2033 4.3)."""
        return self.lmtp and self.sender is not None and not self.recipients and not self.has_body and not self.refuses

    # Changes of the state

    def reset(self) -> None:
        """Clear the transaction (RFC 5321 3.3, 4.1.1.5)."""
        self.sender, self.recipients, self.chunks, self.spoiled = None, [], None, False

    def start_tls(self) -> None:
        """Discard everything that the client has sent (RFC 3207 4.2)."""
        self.reset()
        self.hello, self.authenticated, self.tls = False, False, True

    def change_client(self, *, authenticated: bool) -> None:
        """Begin again for the client that XCLIENT describes."""
        self.reset()
        self.hello, self.authenticated = False, authenticated

    def end_body(self, content: bytes, *, accepted: bool) -> Message | None:
        """End a message, and return it if the server has accepted it (RFC 5321 4.1.1.4, 4.2.5)."""
        assert self.sender is not None
        message = (self.sender, tuple(self.recipients), content)
        self.reset()
        return message if accepted else None

    def end_chunk(self, octets: bytes, *, last: bool, accepted: bool) -> Message | None:
        """End a chunk, and return the message if the chunk was the last and the server has accepted it."""
        content = (self.chunks or b"") + octets
        if last:
            return self.end_body(content, accepted=accepted)

        self.chunks = content
        self.spoiled |= not accepted
        return None

    # The codes that refuse a command out of sequence

    def objection(self, verb: str) -> frozenset[int]:
        """Return the codes that may answer a command with this verb, if it is out of sequence; otherwise nothing.

        An empty set means that the server decides. Then the code 503 is wrong.
        """
        if self.refuses:
            return FREE if verb == "QUIT" else BAD_SEQUENCE

        match verb:
            case "MAIL":  # RFC 5321 3.3: a session must be open, and no transaction
                return FREE if self.hello and self.sender is None else BAD_SEQUENCE
            case "RCPT":  # RFC 5321 3.3; RFC 3030 section 2: not after the start of the body
                return FREE if self.sender is not None and not self.has_body else BAD_SEQUENCE
            case "DATA":  # RFC 5321 3.3; RFC 3030 section 2: DATA and BDAT exclude each other
                return BAD_SEQUENCE if self.sender is None or self.has_body else self._without_recipients()
            case "BDAT":  # RFC 3030 section 2
                return BAD_SEQUENCE if self.sender is None or self.spoiled else self._without_recipients()
            case "AUTH":  # RFC 4954 section 4: not before EHLO, not in a transaction, not twice
                is_free = self.hello and self.sender is None and not self.authenticated
                return FREE if is_free else BAD_SEQUENCE
            case "STARTTLS":  # RFC 3207 4.2: not twice
                return UNDER_TLS if self.tls else FREE
            case "XCLIENT":  # Postfix XCLIENT_README: not in a transaction
                return FREE if self.sender is None else BAD_SEQUENCE
            case _:  # RFC 5321 4.1.4: allowed at any time
                return FREE

    def _without_recipients(self) -> frozenset[int]:
        return FREE if self.recipients else WITHOUT_RECIPIENTS
