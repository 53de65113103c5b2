"""What a supervisor of its own is given by who starts it: variables and a profile, by a pipe.

Anything of it may be secret: a file would keep it, and what a process has in its environment when it is started stands
in `/proc` for as long as it lives, whatever it makes of it.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from spanline.errors import SpanlineError
from spanline.system import process

if TYPE_CHECKING:
    from spanline.profiles import Profile


def offer(environment: Mapping[str, str], profile: Profile | None) -> int:
    """Return a descriptor to read this from, by `take`, in another process: close it once that has inherited it."""
    # The plain encoder also has a form for what is no UTF-8 in a variable.
    content = json.dumps({"environment": dict(environment), "profile": msgspec.to_builtins(profile)}).encode()
    read, write = process.private_pipe()

    def give() -> None:
        left = content
        with suppress(BrokenPipeError):  # that process has died, which who waits for it sees
            while left:
                left = left[os.write(write, left) :]
        process.close(write)

    # A pipe has little room, and that process may hang.
    threading.Thread(target=give, name="spanline-handover", daemon=True).start()
    return read


def take(fd: int) -> Profile | None:
    """Take over what another process has offered: the variables into our environment, and the profile.

    Raises `SpanlineError` where that process has ended before it had said all.
    """
    pieces = []
    while piece := os.read(fd, 1 << 16):
        pieces.append(piece)
    try:
        given = json.loads(b"".join(pieces))
    except ValueError:  # which would quote it
        raise SpanlineError("who started this supervisor ended before it had said what it is given") from None
    os.environ.update(given["environment"])
    if given["profile"] is None:
        return None
    from spanline.profiles import Profile  # noqa: PLC0415 - few runs have one

    return msgspec.convert(given["profile"], Profile)
