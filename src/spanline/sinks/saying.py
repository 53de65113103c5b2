"""What may be said of an error on the way to a backend: clients quote addresses and headers, and these hold secrets."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import unquote

from spanline.runner.secrets import Redactor, secrets_of_address, secrets_of_environment

_LONGEST: Final = 600
_OF_BACKENDS: Final = ("OPENLINEAGE", "OTEL_")
_SHORTEST_HEADER: Final = 6
"""Shortest value of a header taken for a secret: `x-scope-orgid=1` must not blank every "1"."""


def in_short(error: BaseException) -> str:
    """The kind of an error and the first line of what it says, without secrets."""
    text = str(error).strip().splitlines()
    return without_secrets(f"{type(error).__name__}: {text[0] if text else ''}")[:_LONGEST]


def in_full(error: BaseException) -> str:
    """An error with its traceback, without secrets."""
    return without_secrets("".join(traceback.format_exception(error)))


def without_secrets(text: str) -> str:
    """The same text, with what the environment or the text itself shows to be a secret masked."""
    return str(Redactor([*_secrets(os.environ), *secrets_of_address(text)]).clean(text))


def _secrets(environ: Mapping[str, str]) -> Iterator[str]:
    yield from secrets_of_environment(environ)
    for name, value in environ.items():
        if name.startswith(_OF_BACKENDS):
            for secret in (*secrets_of_address(value), *_headers(name, value)):
                yield from (secret, unquote(secret))


def _headers(name: str, value: str) -> Iterator[str]:
    """Values of headers, `key=value,key=value`: https://opentelemetry.io/docs/specs/otel/protocol/exporter/."""
    if name.endswith("_HEADERS"):
        found = (part.partition("=")[2].strip() for part in value.split(","))
        yield from (header for header in found if len(header) >= _SHORTEST_HEADER)
