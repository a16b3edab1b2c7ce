"""Forwarding: relay each message to another server while it arrives."""

from ._forward import Bounce, Fields, Forward

__all__ = ["Bounce", "Fields", "Forward"]
