"""How long a delivery waits for things, and how much it holds: one frozen struct, so that a test can ask for less."""

from __future__ import annotations

import msgspec


class DeliveryLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of the delivery of one run. Times are in seconds."""

    messages: int = 500
    """How many messages of a sink may wait in memory; beyond that the journal keeps the rest."""
    burst: int = 64
    """How many messages are made before the first of them goes out."""
    pauses: tuple[float, ...] = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
    """How long a message that has failed waits before it is sent again, by the number of times that it has."""
    tries: int = 4
    """How often a message has to fail before it is given up, where the backend takes others meanwhile."""
    kept: int = 200
    """How many messages that were given up a cursor remembers."""
    save: float = 1.0
    """How often a cursor is saved."""
    set_up: float = 5.0
    """How long the first sinks wait for others to be set up, and how long the end of a short run does."""
    counting_share: float = 0.2
    """What part of the time at the end is left to count in, for what backends that take nothing are owed."""
    tell: float = 1.0
    """How long what is told of the delivery may take at least to be delivered itself, whatever the rest has taken."""
    stop: float = 5.0
    """How long readers that were told to give up may take, together, to count what is left."""
