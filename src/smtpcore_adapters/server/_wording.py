"""Change the texts of the replies of one session, as the `wording` functions of its `App` say."""

import logging
from typing import Any

from smtpcore import Reply, ReplyCode

from ._app import App
from ._notifications import AbortConnection, Author
from ._session import Session
from ._session_log import SessionLog

_MOST_LINES = 100


class Wordings:
    """The `wording` functions of an `App`, called for one session."""

    __slots__ = ("_app", "_log", "_session", "_worded")

    def __init__(self, app: App[Any], session: Session[Any], log: SessionLog) -> None:
        self._app = app
        self._session = session
        self._log = log
        self._worded: Reply | None = None
        """The last reply with another text. A log record may need the text before the reply is sent."""

    def apply(self, reply: Reply, author: Author) -> Reply:
        """Return `reply` with the text of the first function that returns a reply, otherwise `reply` itself.

        The code stays. The text can be sent to any client. Errors of a function are logged.
        """
        if reply is self._worded or reply.code == ReplyCode.AUTHENTICATION_CHALLENGE:
            return reply  # the text of a challenge is data of the mechanism

        for function in self._app.wordings:
            try:
                text = function(self._session, reply, author)
                if text is not None:
                    self._worded = _with_text(reply, text)
                    return self._worded
            except (AbortConnection, SystemExit, KeyboardInterrupt):
                raise
            except BaseException as exc:  # `pytest.fail` raises a BaseException
                self._log.write(logging.ERROR, "a wording function failed, the reply stays %s", reply, exc_info=exc)

        return reply


def _with_text(reply: Reply, text: object) -> Reply:
    if not isinstance(text, Reply) or text.code != reply.code:
        raise TypeError(f"the wording of {reply!r} is {text!r}: return None, or a Reply with the code {reply.code}")
    if len(text.lines) > _MOST_LINES:
        raise ValueError(f"the wording has {len(text.lines)} lines: a reply may have {_MOST_LINES}")

    lines = text.fitting(ascii_only=True).lines
    return Reply(reply.code, *lines, enhanced=text.enhanced or reply.enhanced, is_relayed=reply.is_relayed)
