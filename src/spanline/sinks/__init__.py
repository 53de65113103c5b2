"""Sinks: readers of the journal that tell a backend what happened.

The names below are what the author of a sink needs; `spanline.testing` helps to test one.
"""

from spanline.sinks.base import Later, Message, Rejected, Sink

__all__ = ["Later", "Message", "Rejected", "Sink"]
