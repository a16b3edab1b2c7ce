"""Why a change that no test notices is none, or none that matters: by patterns of `before -> after`."""

REASONS: list[tuple[str, str]] = [
    ("the text of an assertion, which tells a reader why it holds", r"assert .*, [\"'].* -> assert"),
    (
        "a first value that is as false as the other, or that is set before it is read",
        r"(= False -> .*= (None|True)$)|(= None -> .*= \"\"$)|(= \"\" -> .*= None$)|(= 0 -> .*= (None|1)$)"
        r"|(self\._(last|code) = )|(_searched = 0 .*-> )|(_at_start = )",
    ),
    (
        "what an exception of our own shows of itself, when no one catches it",
        r"super\(\).__init__\((line, fault|reason\.text)\) ->",
    ),
    ("names of codecs and of hashes, which have no letter case", r"-> .*\"(ASCII|SHA256|MD5)\""),
    (
        "slower, and right: a shorter way for what is frequent, or what is remembered and can be found out again",
        r"is_paired|suspect|_hoped_for|_state_ahead\(\)|hoped = ReplyClass|_ahead = |return hash\(|len\(line\) \* 4"
        r"|_has_bare_newlines|_cut\(lines\)|rfind\(b\"\\r\\n\", start, |guards\) or True|has_code = "
        r"|objections if|_SPELLINGS|_partial\) > self\._longest|_find_dot|_unstuff",
    ),
    (
        "a parameter without value is refused whatever stands for its text",
        r"\(text or \"\"|pairs\.get\(\"auth\", \"\"\)",
    ),
    (
        "what stands for nothing is not looked at, or fits any limit",
        r"(password|tls|authorization) or \"\"|params\.size or |min_by_time or |else 0 -> .* else 1"
        r"|least_limit: int = |may_be_enhanced else \"\"",
    ),
    (
        "a separator that is there twice is refused either way",
        r"split\(\"=\", 1|until = text\.partition|word\.upper\(\)\.partition|encoded = self\.text\.partition",
    ),
    (
        "as many items on either side, or both or neither of two ends: construction has seen to that",
        r"zip\(.*strict=True|isinstance\(source, Endpoint\)",
    ),
    (
        "what does not come here, by the checks before: any value would do",
        r"MAY_HEAR\.get\(self\._state, \(\)\)|if self\._mail else None|_fold\(code|allowed = \"p\"|// 100|end < 0"
        r"|> MAX_AUTH_LINE|find\(\">\", start\)|else -1|ljust\(|range\(len\(head\)|bare_newlines=None|tail \+= "
        r"|validate=True|rfind\(b\"\\r\\n\", start\)|_check\(held|< len\(_EMPTY\)",
    ),
    (
        "any key of a mailbox that has none would do, as long as it is the same in each letter case",
        r"self\.text\.lower\(\), \"\"",
    ),
    (
        "what Python does by default, said all the same",
        r"to_bytes\(4, \"big\"\)|take_at_most\(len\(buffer\)\)|endswith\(b\"\\r\", 0|case _: return False",
    ),
    ("how much of a long name or text is shown", r"\[:(40|200)\]"),
    ("more random than need be", r"randbits\(64\)|token_urlsafe\(18\)"),
    ("a list that is empty, and None, which is as false", r"^break -> return$"),
]
