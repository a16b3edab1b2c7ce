"""The refusals of the core: for each, the name of the rule that decides, and the reply to send."""

# `_refusals.py` checks the rules of commands in their order; `_parser.py` and `_bodies` decide about syntax and bodies.
# All of them take their replies from here, so that each wording is in one place. The refusals by an extension's own
# rules are in the module of the extension. `docs/server.md` has a table of the rules.
#
# A word in braces is filled in when the refusal is made: `rules.NOT_IMPLEMENTED.fill(verb="TURN")`.

from dataclasses import dataclass

from ._replies import Reply


@dataclass(frozen=True, slots=True)
class Refusal:
    """A negative reply, and the name of the rule that decided."""

    rule: str
    reply: Reply

    def fill(self, *, enhanced: str | None = None, **words: object) -> "Refusal":
        """Return this refusal with its braces filled in, and with the enhanced status code `enhanced` if given."""
        reply = self.reply
        text = reply.lines[0].format(**words)
        return Refusal(self.rule, Reply(reply.code, text, enhanced=enhanced or reply.enhanced))


def _row(rule: str, code: int, enhanced: str | None, text: str) -> Refusal:
    return Refusal(rule, Reply(code, text, enhanced=enhanced))


# Lines

LINE_TOO_LONG = _row("max_command_line", 500, "5.5.2", "Line too long")  # RFC 5321 4.5.3.1.9
BARE_NEWLINE = _row("bare_newlines", 500, "5.5.2", "A line must end with CR LF, not with a bare CR or LF")
RESPONSE_TOO_LONG = _row("AUTH", 500, "5.5.6", "Authentication line too long")  # RFC 4954 section 6

# Limits of a session

TOO_MANY_ERRORS = _row("max_errors", 421, "4.7.0", "{host} closing: too many errors")
TOO_MANY_REFUSALS = _row("max_refusals", 421, "4.7.0", "{host} closing: too many refusals")
TOO_MANY_FAILURES = _row("max_auth_failures", 421, "4.7.0", "{host} closing: too many failed authentications")
TOO_MANY_COMMANDS = _row("max_idle_commands", 421, "4.7.0", "{host} closing: too many commands without a message")
TOO_MANY_MESSAGES = _row("max_messages", 421, "4.7.0", "{host} closing: too many messages in one session")

# The protocol, TLS, and authentication

SPEAKS_SMTP = _row("lmtp", 500, None, "This is an SMTP server: send EHLO")
SPEAKS_LMTP = _row("lmtp", 500, None, "This is an LMTP server: send LHLO")
NEEDS_TLS = _row("require_tls", 530, "5.7.0", "STARTTLS must come first")  # RFC 3207 section 4
NEEDS_AUTH = _row("require_auth", 530, "5.7.0", "Authentication required")  # RFC 4954 section 6

TLS_ACTIVE = _row("STARTTLS", 503, "5.5.1", "TLS is already active")
STARTTLS_NOT_LAST = _row("STARTTLS", 421, "4.7.0", "{host} closing: STARTTLS must be the last command of a group")
AUTHENTICATED = _row("AUTH", 503, "5.5.1", "This session is already authenticated")
MECHANISM_NOT_OFFERED = _row("auth_mechanisms", 504, "5.5.4", "This mechanism is not offered")
MECHANISM_NEEDS_TLS = _row("plaintext_auth", 504, "5.5.4", "This mechanism needs TLS: send STARTTLS first")

# The order of commands

OUT_OF_SEQUENCE = _row("sequence", 503, "5.5.1", "Bad sequence of commands")
HELLO_FIRST = _row("sequence", 503, "5.5.1", "{hello} must come first")
MAIL_FIRST = _row("sequence", 503, "5.5.1", "MAIL must come first")
TRANSACTION_OPEN = _row("sequence", 503, "5.5.1", "A mail transaction is already open")
NO_RECIPIENTS = _row("sequence", 554, "5.5.1", "No valid recipients")  # RFC 5321 3.3
BDAT_ONLY = _row("sequence", 503, "5.5.1", "A message that began with BDAT must continue with BDAT")
CHUNK_REFUSED = _row("sequence", 503, "5.5.1", "A chunk was refused: end the transaction with RSET")
NOT_IMPLEMENTED = _row("verb", 502, "5.5.1", "{verb} is not implemented")  # RFC 5321 4.2.4

# Values of commands

TOO_MANY_RECIPIENTS = _row("max_recipients", 452, "4.5.3", "Too many recipients")  # RFC 5321 4.5.3.1.10
TOO_MANY_IN_SESSION = _row("max_recipients_per_session", 452, "4.5.3", "Too many recipients in one session")
TOO_MANY_DOMAINS = _row("max_recipient_domains", 452, "4.5.3", "Too many domains of recipients")  # RFC 9422
SENDER_NOT_ASCII = _row("SMTPUTF8", 550, "5.6.7", "A non-ASCII sender needs the parameter SMTPUTF8")
RECIPIENT_NOT_ASCII = _row("SMTPUTF8", 553, "5.6.7", "A non-ASCII recipient needs the parameter SMTPUTF8 of MAIL")
NEEDS_BDAT = _row("BINARYMIME", 503, "5.5.1", "A binary message must be sent with BDAT")

# Syntax. RFC 5321 4.2.4, 4.3.2: 500 if no known verb was found, otherwise 501. RFC 5321 4.1.1.11: 555 for an unknown
# parameter. 521 closes the connection, because a chunk of unknown size follows.

NO_VERB = _row("syntax", 500, "5.5.2", "A command must start with a word of letters")
BAD_LINE = _row("syntax", 500, "5.5.2", "Syntax error: {why}")
BAD_COMMAND = _row("syntax", 501, "5.5.4", "Syntax error in {verb}: {why}")
BAD_HELLO = _row("syntax", 501, "5.5.4", "Syntax: {verb} and your domain, or your address in brackets")
BAD_PATH = _row("syntax", 501, "5.5.4", "Syntax: {verb} {keyword}<address>")
BAD_SENDER = _row("address", 501, "5.1.7", "The sender is not a valid address")
BAD_RECIPIENT = _row("address", 501, "5.1.3", "The recipient is not a valid address")
BAD_SPACES = _row("syntax", 501, "5.5.4", "Parameters must be separated by single spaces")
BAD_PARAMETER = _row("syntax", 501, "5.5.4", "Malformed parameter")
BAD_VALUE = _row("syntax", 501, "5.5.4", "Malformed {keyword}: {why}")
PARAMETER_TWICE = _row("syntax", 501, "5.5.4", "Parameter {keyword} is given twice")
UNKNOWN_PARAMETER = _row("unknown_parameters", 555, "5.5.4", "Parameter {keyword} is not recognized")
NO_ARGUMENT = _row("syntax", 501, "5.5.4", "{verb} takes no argument")  # RFC 5321 4.1.1
NO_VALUE = _row("syntax", 501, "5.5.4", "SMTPUTF8 takes no value")  # RFC 6531 3.1 (6)
BAD_LOOKUP = _row("syntax", 501, "5.5.4", "Syntax: {verb} and a name")
BAD_BDAT = _row("syntax", 501, "5.5.4", "Syntax: BDAT and a number of octets, then LAST or nothing")
BAD_CHUNK_SIZE = _row("syntax", 521, "5.5.4", "Closing, because BDAT has no valid number of octets")
BAD_AUTH = _row("syntax", 501, "5.5.4", "Syntax: AUTH and the name of a mechanism")
BAD_BASE64 = _row("syntax", 501, "5.5.2", "This is not base64")  # RFC 4954 section 6

# Bodies

BODY_BARE_NEWLINE = _row("bare_newlines", 550, "5.6.0", "A line of the message ends with a bare CR or LF")
BODY_LINE_TOO_LONG = _row("max_text_line", 554, "5.6.0", "A line of the message exceeds {octets} octets")
HEADER_TOO_LARGE = _row("max_header", 552, "5.3.4", "The header of the message exceeds the maximum size")
BODY_TOO_LARGE = _row("max_message_size", 552, "5.3.4", "The message exceeds the maximum size")
