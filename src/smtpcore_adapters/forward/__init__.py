"""Forwarding: relay each message to another server while it arrives."""

from smtpcore import show_texts

from ._forward import Bounce, Fields, Forward

__all__ = ["Bounce", "Fields", "Forward"]

show_texts(globals())
