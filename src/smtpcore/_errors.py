"""Who may raise what."""


class ProtocolError(Exception):
    """Base of every error that smtpcore raises."""


class LocalProtocolError(ProtocolError):
    """The program asked for something that SMTP does not allow.

    Nothing was sent, and the object is as it was before the call.
    """


class RemoteProtocolError(ProtocolError):
    """The peer did something after which the dialogue cannot go on.

    Send what `data_to_send()` still returns, then close the connection.
    """
