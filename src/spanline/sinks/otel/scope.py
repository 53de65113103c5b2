"""What spans, metrics and log records are said to be made by, and by which version of the conventions."""

from __future__ import annotations

from typing import Final

from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from spanline._version import __version__
from spanline.results import conventions

SCOPE: Final = InstrumentationScope("spanline", __version__, conventions.SCHEMA_URL)
