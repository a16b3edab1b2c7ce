"""Reasons why a surviving mutant is equivalent or harmless, by patterns of `before -> after`."""

REASONS: list[tuple[str, str]] = [
    ("the text of an assertion, which only explains it to a reader", r"assert .*, [\"'].* -> assert"),
    (
        "an initial value that is equally false, or that is replaced before it is read",
        r"(= False -> .*= (None|True)$)|(= None -> .*= \"\"$)|(= \"\" -> .*= None$)|(= 0 -> .*= (None|1)$)"
        r"|(self\._(last|code) = )|(_searched = 0 .*-> )|(_at_start = )",
    ),
    (
        "the text of one of our exceptions when nobody catches it",
        r"super\(\).__init__\((line, fault|reason\.text)\) ->",
    ),
    ("names of codecs and hashes, which are case-insensitive", r"-> .*\"(ASCII|SHA256|MD5)\""),
    (
        "an optimization: a shortcut for a frequent case, or a cached value that can be computed again",
        r"is_paired|suspect|_hoped_for|_state_ahead\(\)|hoped = ReplyClass|_ahead = |return hash\(|len\(line\) \* 4"
        r"|_has_bare_newlines|_cut\(lines\)|rfind\(b\"\\r\\n\", start, |guards\) or True|has_code = "
        r"|objections if|_SPELLINGS|_partial\) > self\._longest|_find_dot|_unstuff",
    ),
    (
        "a parameter without value is refused whatever its replacement text",
        r"\(text or \"\"|pairs\.get\(\"auth\", \"\"\)",
    ),
    (
        "a placeholder that is not used, or that is within any limit",
        r"(password|tls|authorization) or \"\"|params\.size or |min_by_time or |else 0 -> .* else 1"
        r"|least_limit: int = |may_be_enhanced else \"\"",
    ),
    (
        "a repeated separator is refused either way",
        r"split\(\"=\", 1|until = text\.partition|word\.upper\(\)\.partition|encoded = self\.text\.partition",
    ),
    (
        "equal lengths, or both or neither of two ends: the constructor guarantees it",
        r"zip\(.*strict=True|isinstance\(source, Endpoint\)",
    ),
    (
        "unreachable because of earlier checks: any value would do",
        r"ALLOWED_COMMANDS\.get\(|if self\._mail else None|_fold\(code|allowed = \"p\"|// 100|end < 0"
        r"|> MAX_AUTH_LINE|find\(\">\", start\)|else -1|ljust\(|range\(len\(head\)|bare_newlines=None|tail \+= "
        r"|validate=True|rfind\(b\"\\r\\n\", start\)|_check\(held|< len\(_EMPTY\)",
    ),
    (
        "any key would do for a path without mailbox, as long as it ignores letter case",
        r"self\.text\.lower\(\), \"\"",
    ),
    (
        "an explicit form of a Python default",
        r"to_bytes\(4, \"big\"\)|take_at_most\(len\(buffer\)\)|endswith\(b\"\\r\", 0|case _: return False",
    ),
    ("the shown length of a long name or text", r"\[:(40|200)\]"),
    ("more randomness than needed", r"randbits\(64\)|token_urlsafe\(18\)"),
    ("an empty list instead of None, which is equally false", r"^break -> return$"),
]
