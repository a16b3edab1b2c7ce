"""The built-in ESMTP extensions, a table."""

from .. import parameters as of
from .._commands import XCLIENT_ATTRIBUTES, XFORWARD_ATTRIBUTES, Mail, Rcpt
from .._config import Config
from .._replies import Reply
from ..parameters import ByMode, format_date_time
from . import _announcements as offers
from ._announcements import HoldLimits
from ._definition import Extension, Parameter

# What may stand against a command though each of its parameters is well-formed


def _object_to_size(limit: int | None, command: Mail | Rcpt) -> Reply | None:
    if limit is None or (command.params.size or 0) <= limit:
        return None

    # RFC 1870 6.1
    return Reply(552, f"The message exceeds the maximum size of {limit} octets", enhanced="5.3.4")


def _object_to_by(min_by_time: int | None, command: Mail | Rcpt) -> Reply | None:
    by = command.params.by
    if by is None or by.mode is not ByMode.RETURN or min_by_time is None or by.seconds >= min_by_time:
        return None

    # RFC 2852 sections 3 and 4
    return Reply(555, f"BY has to allow for at least {min_by_time} seconds", enhanced="5.5.4")


def _object_to_hold(limits: HoldLimits, command: Mail | Rcpt) -> Reply | None:
    params = command.params
    if params.holdfor is not None and params.holduntil is not None:
        why = "HOLDFOR and HOLDUNTIL exclude each other"
    elif params.holdfor is not None and params.holdfor > limits.seconds:
        why = f"HOLDFOR allows for at most {limits.seconds} seconds"
    elif params.holduntil and params.holduntil > limits.until:
        why = f"HOLDUNTIL allows for {format_date_time(limits.until)} at the latest"
    elif params.holdfor is not None and params.by and params.holdfor > params.by.seconds:
        why = "HOLDFOR ends behind the time of BY"  # RFC 4865 5.2.2
    else:
        return None

    return Reply(501, why, enhanced="5.5.4")  # RFC 4865 4.2 (10), (11)


# Arguments


def _announce_hold(config: Config) -> str:
    assert config.max_hold_until, "it is not offered otherwise"
    return f"{config.max_hold_for} {format_date_time(config.max_hold_until.replace(microsecond=0))}"


def _announce_limits(config: Config) -> str:
    limits = {
        "MAILMAX": config.max_messages,
        "RCPTMAX": config.max_recipients,
        "RCPTDOMAINMAX": config.max_recipient_domains,
    }
    return " ".join(f"{name}={min(limit, MAX_LIMIT)}" for name, limit in limits.items() if limit is not None)


MAX_LIMIT = 999_999  # RFC 9422: six digits


EXTENSIONS = (
    # RFC 2920
    Extension(keyword="PIPELINING", parse_arguments=offers.parse_nothing),
    # RFC 1870. Section 3 (1): 0 stands for "no fixed maximum".
    Extension(
        keyword="SIZE",
        arguments=lambda config: str(config.max_message_size or 0),
        parse_arguments=offers.parse_size_limit,
        mail={"SIZE": Parameter(parse=of.parse_size, octets=26)},
        objection=_object_to_size,
    ),
    # RFC 6152. It names no growth of the line; " BODY=8BITMIME" should not cost an address its room.
    Extension(
        keyword="8BITMIME",
        parse_arguments=offers.parse_nothing,
        mail={"BODY": Parameter(parse=of.parse_body, octets=14)},
    ),
    # RFC 6531 3.1 (5): the MAIL line grows by 10 octets.
    Extension(
        keyword="SMTPUTF8",
        parse_arguments=offers.parse_nothing,
        mail={"SMTPUTF8": Parameter(parse=of.parse_flag, octets=10)},
    ),
    # RFC 3030
    Extension(keyword="CHUNKING", parse_arguments=offers.parse_nothing, verbs=frozenset({"BDAT"})),
    # Section 3 (8): the MAIL line grows by 16 octets.
    Extension(
        keyword="BINARYMIME",
        parse_arguments=offers.parse_nothing,
        mail={"BODY": Parameter(parse=of.parse_binary_body, octets=16)},
    ),
    # RFC 4954. Section 3 (4): the mechanisms are the arguments.
    Extension(
        keyword="AUTH",
        arguments=lambda config: " ".join(config.auth_mechanisms),
        parse_arguments=offers.parse_mechanisms,
        offered=lambda config, tls: bool(config.auth_mechanisms) and (tls or config.plaintext_auth),
        mail={"AUTH": Parameter(parse=of.parse_auth, octets=500)},
        verbs=frozenset({"AUTH"}),
    ),
    # RFC 3461. 5.4: ENVID up to 100 characters, ORCPT up to 500.
    Extension(
        keyword="DSN",
        parse_arguments=offers.parse_nothing,
        mail={
            "RET": Parameter(parse=of.parse_ret, octets=9),
            "ENVID": Parameter(parse=of.parse_envid, octets=107),
        },
        rcpt={
            "NOTIFY": Parameter(parse=of.parse_notify, octets=29),
            "ORCPT": Parameter(parse=of.parse_orcpt, octets=507),
        },
    ),
    # RFC 2852
    Extension(
        keyword="DELIVERBY",
        arguments=lambda config: "" if config.min_by_time is None else str(config.min_by_time),
        parse_arguments=offers.parse_min_by_time,
        mail={"BY": Parameter(parse=of.parse_by, octets=17)},
        objection=_object_to_by,
    ),
    # RFC 4865. Section 3 (2): both arguments are required. (5): 34 octets for the one parameter or the other.
    Extension(
        keyword="FUTURERELEASE",
        arguments=_announce_hold,
        parse_arguments=offers.parse_hold_limits,
        offered=lambda config, tls: config.max_hold_until is not None,
        mail={
            "HOLDFOR": Parameter(parse=of.parse_holdfor, octets=0),
            "HOLDUNTIL": Parameter(parse=of.parse_holduntil, octets=34),
        },
        objection=_object_to_hold,
    ),
    # RFC 6710. Section 4.1 (1) names the enhanced status code.
    Extension(
        keyword="MT-PRIORITY",
        arguments=lambda config: config.priority_policy or "",
        parse_arguments=offers.parse_policy,
        mail={"MT-PRIORITY": Parameter(parse=of.parse_mt_priority, octets=15, enhanced="5.5.2")},
    ),
    # RFC 8689 section 2: it means nothing without TLS.
    Extension(
        keyword="REQUIRETLS",
        parse_arguments=offers.parse_nothing,
        offered=lambda config, tls: tls,
        mail={"REQUIRETLS": Parameter(parse=of.parse_flag, octets=11)},
    ),
    # RFC 7293 3.1
    Extension(
        keyword="RRVS",
        parse_arguments=offers.parse_nothing,
        rcpt={"RRVS": Parameter(parse=of.parse_rrvs, octets=33)},
    ),
    # RFC 3865. It counts 1007 octets; " SOLICIT=" and 1000 characters are two more.
    Extension(
        keyword="NO-SOLICITING",
        arguments=lambda config: ",".join(config.solicitation_classes),
        parse_arguments=offers.parse_classes,
        mail={"SOLICIT": Parameter(parse=of.parse_solicit, octets=1009)},
    ),
    # RFC 9422
    Extension(keyword="LIMITS", arguments=_announce_limits, parse_arguments=offers.parse_limits),
    # RFC 1985
    Extension(keyword="ETRN", parse_arguments=offers.parse_nothing, verbs=frozenset({"ETRN"})),
    # RFC 4468. Section 4: it comes with 8BITMIME. It is for submission, and says nothing of LMTP.
    Extension(
        keyword="BURL",
        arguments=lambda config: " ".join(config.burl),
        parse_arguments=offers.parse_words,
        offered=lambda config, tls: "8BITMIME" not in config.disabled and not config.lmtp,
        verbs=frozenset({"BURL"}),
    ),
    # Postfix XCLIENT_README and XFORWARD_README
    Extension(
        keyword="XCLIENT",
        arguments=lambda config: " ".join(XCLIENT_ATTRIBUTES),
        parse_arguments=offers.parse_words,
        verbs=frozenset({"XCLIENT"}),
    ),
    Extension(
        keyword="XFORWARD",
        arguments=lambda config: " ".join(XFORWARD_ATTRIBUTES),
        parse_arguments=offers.parse_words,
        verbs=frozenset({"XFORWARD"}),
    ),
    # RFC 2034
    Extension(keyword="ENHANCEDSTATUSCODES", parse_arguments=offers.parse_nothing),
    # RFC 3207 4.2: not offered under TLS.
    Extension(
        keyword="STARTTLS",
        parse_arguments=offers.parse_nothing,
        offered=lambda config, tls: config.tls and not tls,
        verbs=frozenset({"STARTTLS"}),
    ),
    # RFC 5321 3.5.2: VRFY works whether it is announced or not, EXPN has to be announced.
    Extension(keyword="VRFY", parse_arguments=offers.parse_nothing),
    Extension(keyword="EXPN", parse_arguments=offers.parse_nothing, verbs=frozenset({"EXPN"})),
    # RFC 5321 4.1.1.8
    Extension(keyword="HELP", parse_arguments=offers.parse_nothing, verbs=frozenset({"HELP"})),
)
"""The built-in extensions. Pass `(*EXTENSIONS, yours)` to a connection to add entries of your own."""
