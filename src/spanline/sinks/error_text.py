"""What may be said of an error on the way to a backend: clients quote addresses and headers, and these hold secrets."""

from __future__ import annotations

import json
import os
import re
import traceback
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import unquote

from spanline.runner.shared import settings
from spanline.runner.shared.in_text import MASK, masked_address
from spanline.runner.shared.masking import Redactor, in_any_form
from spanline.runner.shared.secrets import secrets_of_address, secrets_of_environment, secrets_of_mapping
from spanline.runner.shared.telling import looks_secret

_LONGEST: Final = 600
_SHORTEST_HEADER: Final = 6
"""Shortest value of a header taken for a secret whatever its name: `x-scope-orgid=1` must not blank every "1"."""
_SHORTEST: Final = 4
_CREDENTIALS: Final = re.compile(r"(?i)\b(bearer|basic)\s+[^\s'\"\\,;]+")
"""What follows a scheme of https://www.rfc-editor.org/rfc/rfc9110#name-authorization, wherever it was configured."""


def in_short(error: BaseException) -> str:
    """The kind of an error and the first line of what it says, without secrets."""
    text = str(error).strip().splitlines()
    return without_secrets(f"{type(error).__name__}: {text[0] if text else ''}")[:_LONGEST]


def in_full(error: BaseException) -> str:
    """An error with its traceback, without secrets."""
    return without_secrets("".join(traceback.format_exception(error)))


def without_secrets(text: str) -> str:
    """The same text, with what the environment or the text itself shows to be a secret masked."""
    # An error has no structure that could be lost: secrets of backends are masked however plain they are.
    for secret in sorted(set(_of_backends(os.environ)), key=len, reverse=True):
        text = in_any_form(secret).sub(MASK, text)
    known = Redactor(secrets_of_environment(os.environ)).text(text)
    return _CREDENTIALS.sub(rf"\1 {MASK}", masked_address(known))


def _of_backends(environ: Mapping[str, str]) -> Iterator[str]:
    for name, value in environ.items():
        if name.startswith(settings.BACKEND_PREFIXES):
            named = [value] if looks_secret(name) else []
            for secret in (*named, *secrets_of_address(value), *_headers(name, value), *_configured(value)):
                yield from (each for each in (secret, unquote(secret)) if len(each) >= _SHORTEST)


def _headers(name: str, value: str) -> Iterator[str]:
    """Values of headers, `key=value,key=value`: https://opentelemetry.io/docs/specs/otel/protocol/exporter/."""
    for pair in value.split(",") if name.endswith("_HEADERS") else ():
        header, _, said = pair.partition("=")
        said = said.strip().strip("\"'")
        if looks_secret(header.strip()) or (len(said) >= _SHORTEST_HEADER and not header.lower().startswith("content")):
            yield from (said, *unquote(said).split()[1:])  # the scheme alone is none


def _configured(value: str) -> Iterator[str]:
    """Of a configuration in JSON: https://openlineage.io/docs/client/python/configuration."""
    try:
        found = json.loads(value) if value.lstrip().startswith("{") else None
    except ValueError:
        return
    yield from secrets_of_mapping(found)
