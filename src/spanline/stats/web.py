"""A home on a web server: the size of each answer and the time to wait for it are limited."""

from __future__ import annotations

from typing import Final

import aiohttp

LONGEST_ANSWER: Final = 1 << 25
"""Bytes: four times what is asked for of a journal in one go; a listing of 100,000 runs is a third of it."""
_SECONDS: Final = 120.0
DEEPEST: Final = 5
"""Folders below that of the runs which a run's artifacts are in: a listing may name itself for ever."""


class _Answer(aiohttp.ClientResponse):
    async def read(self) -> bytes:
        """As aiohttp's, of text as it is, to the longest that an answer may be."""
        if self._body is None:
            encoding = self.headers.get("Content-Encoding", "identity")
            if encoding != "identity":
                self.close()
                raise aiohttp.ClientPayloadError(f"{self.url} answers in {encoding}, which it was not asked for")
            found = bytearray()
            async for piece in self.content.iter_any():
                found += piece
                if len(found) > LONGEST_ANSWER:
                    self.close()
                    raise aiohttp.ClientPayloadError(f"{self.url} answers with more than {LONGEST_ANSWER} bytes")
            self._body = bytes(found)
        return self._body


def options() -> dict[str, object]:
    """What fsspec is to give to its client. What is packed is neither asked for nor unpacked."""
    return {
        "client_kwargs": {
            "response_class": _Answer,
            "timeout": aiohttp.ClientTimeout(total=_SECONDS),
            "headers": {"Accept-Encoding": "identity"},
            "auto_decompress": False,
        }
    }
