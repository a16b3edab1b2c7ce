"""The exceptions of smtpcore."""


class ProtocolError(Exception):
    """Base class of every error that smtpcore raises."""


class LocalProtocolError(ProtocolError):
    """Your program asked for something that SMTP does not allow.

    Nothing was sent, and the object has the same state as before the call.
    """


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol, so that the dialogue cannot continue.

    Send the bytes that `data_to_send()` still returns, then close the connection.
    """
