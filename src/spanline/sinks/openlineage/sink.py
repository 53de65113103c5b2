"""Send OpenLineage events over openlineage-python's own transport, whatever it is configured to be."""

from __future__ import annotations

import copy
import logging
import os
import threading
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from typing import Final

import attr
import requests
from openlineage.client import OpenLineageClient
from openlineage.client.client import Event as OpenLineageEvent
from openlineage.client.event_v2 import Job, JobEvent, Run, RunEvent
from openlineage.client.event_v2 import RunState as RunEventType
from openlineage.client.transport.async_http import AsyncHttpTransport
from openlineage.client.transport.composite import CompositeTransport
from openlineage.client.transport.console import ConsoleTransport
from openlineage.client.transport.http import HttpTransport
from openlineage.client.transport.transform import TransformTransport
from openlineage.client.transport.transport import Transport
from urllib3.exceptions import ReadTimeoutError
from urllib3.util import Retry

from spanline.events import Event
from spanline.journal.state import RunState
from spanline.runner.shared import settings
from spanline.sinks.base import Later, Message, Rejected
from spanline.sinks.error_text import without_secrets
from spanline.sinks.http import Adapter, RepeatingSession
from spanline.sinks.openlineage.facets import PRODUCER
from spanline.sinks.openlineage.translate import Options, Translator
from spanline.sinks.openlineage.transport import RepeatingTransport
from spanline.system.terminal import Errors

_HTTP_LANES: Final = 8
_ASYNCHRONOUS_BATCH: Final = 200
_LONGEST_WAIT: Final = 300.0
_TIMEOUT: Final = (5.0, 60.0)
"""Seconds for a connection and for an answer, where no time-out is configured. For an answer the client's own 5 s are
too short: of those of a Marquez on a loaded machine half took more than 1.4 s, one in a hundred more than 13.7 s."""
_REJECTED: Final = frozenset((400, 406, 410, 411, 413, 414, 415, 422))
"""Answers that say that the event is wrong. A wrong key or address (401, 403, 404) can be fixed: then all is sent."""
_BUSY: Final = frozenset((429, 502, 503, 504))
"""Answers that speak of the backend, or of what stands before it, and not of the event."""
_NO_RUN: Final = 500
"""What a backend answers that knows run events only (DataHub) to an event of a job."""
_TRIES_OF_JOB: Final = 4
"""After so many of one event it isn't a backend that is only starting: no event of a job is worth another try."""
_ANSWER_BYTES: Final = 4096
_ANSWER_CHARACTERS: Final = 300
_CONSOLE: Final = "openlineage.client.transport.console"


class OpenLineageSink:
    """Tells an OpenLineage backend of one run."""

    linger = 0.0

    def __init__(self) -> None:
        self._client = _configured_client()
        self._of_threads = threading.local()
        self._tries_of_jobs: Counter[str] = Counter()
        self._takes_jobs: bool | None = None
        self._translator = Translator(Options.of_environment(os.environ))
        transport = self._client.transport
        for sender in _senders(transport):
            sender.config.adapter = Adapter(max_retries=Retry(**sender.config.retry))
        # Only HTTP gains by several connections, if the backend does; files and consoles must be written by one.
        self.lanes = _HTTP_LANES if isinstance(transport, HttpTransport) else 1
        # What sends in a thread of its own is waited for: seldom, as it looks a hundred times a second.
        self.batch = _ASYNCHRONOUS_BATCH if isinstance(transport, AsyncHttpTransport) else 1
        if isinstance(transport, ConsoleTransport):
            _show(logging.getLogger(_CONSOLE))

    def translate(self, event: Event, state: RunState) -> Iterable[Message]:
        """See `Translator`."""
        return self._translator(event, state)

    def deliver(self, payloads: Sequence[object]) -> None:
        """Emit over the configured transport. Raises `Rejected` where the backend says that the event is wrong."""
        transport = self._client.transport
        if isinstance(transport, AsyncHttpTransport):
            self._emit_and_wait(payloads, transport)
            return
        for payload in payloads:
            self._emit(payload)

    def _emit(self, payload: object) -> None:
        if not isinstance(payload, (RunEvent, JobEvent)):
            raise TypeError(f"no OpenLineage event: {payload!r}")
        try:
            self._client_of_thread().emit(payload)
        except Exception as error:
            status = _status(error)
            if status in _REJECTED or (status == _NO_RUN and self._is_no_run(payload)):
                raise Rejected(_reason(error)) from error
            seconds = _retry_after(error)
            if seconds is not None or status in _BUSY:
                raise Later(_reason(error), seconds or 0.0) from error
            if _is_time_out(error):
                raise TimeoutError(str(error)) from error
            raise
        if isinstance(payload, JobEvent):
            self._takes_jobs = True

    def _is_no_run(self, payload: RunEvent | JobEvent) -> bool:
        """Whether that is why it is refused: of the backend's state it may be, as long as it has taken any such."""
        if not isinstance(payload, JobEvent) or self._takes_jobs:
            return False
        self._tries_of_jobs[payload.job.name] += 1
        if self._tries_of_jobs[payload.job.name] >= _TRIES_OF_JOB:
            self._takes_jobs = False
        return self._takes_jobs is False

    def _emit_and_wait(self, payloads: Sequence[object], transport: AsyncHttpTransport) -> None:
        failed = transport.get_stats()["failed"]
        for payload in payloads:
            self._emit(payload)
        transport.wait_for_completion()
        failed = transport.get_stats()["failed"] - failed
        if failed:
            raise ConnectionError(f"{failed} of {len(payloads)} events failed; the client's log says why")

    def probe(self) -> str:
        """Send one event of type OTHER, of a job `spanline-doctor`, by each HTTP transport. Return their addresses."""
        event = _probe()
        transport = self._client.transport
        if isinstance(transport, (HttpTransport, AsyncHttpTransport)):
            self.deliver([event])
            return str(transport.config.url)
        senders = list(_senders(transport))
        for sender in senders:
            sender.emit(event)
        return ", ".join(str(sender.config.url) for sender in senders) or f"transport {transport.kind}, not asked,"

    def close(self) -> None:
        """Close the client; those of the other threads end with them."""
        self._client.close(timeout=1.0)

    def _client_of_thread(self) -> OpenLineageClient:
        """An HTTP transport holds a session, which is not for several threads: each has its own."""
        transport = self._client.transport
        if not isinstance(transport, HttpTransport):
            return self._client
        client: OpenLineageClient | None = getattr(self._of_threads, "client", None)
        if client is None:
            client = self._of_threads.client = copy.copy(self._client)
            # A failure is for `Delivery` to try again: for as long as there is time, and no longer.
            own = RepeatingTransport(attr.evolve(transport.config, adapter=Adapter()))
            own.session = RepeatingSession()
            if "timeout" not in (self._client.config.transport or {}):
                own.timeout = _TIMEOUT  # type: ignore[assignment]  # `requests` takes a pair, too
            client.transport = own
        return client


def _probe() -> RunEvent:
    """The same run each time, so that a backend keeps one."""
    job = Job(Options.of_environment(os.environ).namespace, "spanline-doctor")
    run_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{PRODUCER}#doctor"))
    now = datetime.now(timezone.utc).isoformat()
    return RunEvent(eventTime=now, run=Run(run_id), job=job, eventType=RunEventType.OTHER, producer=PRODUCER)


def _senders(transport: Transport) -> Iterator[HttpTransport]:
    """The HTTP transports that this one is, or hands its events to."""
    if isinstance(transport, HttpTransport):
        yield transport
    elif isinstance(transport, CompositeTransport):
        for each in transport.transports:
            yield from _senders(each)
    elif isinstance(transport, TransformTransport):
        yield from _senders(transport.transport)


def _status(error: BaseException) -> int | None:
    """The HTTP status that an error speaks of."""
    status = getattr(_answer(error), "status_code", None)
    return status if isinstance(status, int) else None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those behind it: transports of transports wrap the errors of theirs."""
    while error is not None:
        yield error
        error = error.__cause__


def _answer(error: BaseException) -> object:
    """The answer that an error is about."""
    answers: Iterator[object] = (getattr(cause, "response", None) for cause in _causes(error))
    return next((answer for answer in answers if answer is not None), None)


def _is_time_out(error: BaseException) -> bool:
    """Whether the backend has the event, and hasn't answered in time. A time-out of the connection isn't that."""
    return any(isinstance(cause, (requests.ReadTimeout, ReadTimeoutError)) for cause in _causes(error))


def _reason(error: BaseException) -> str:
    """Why an event was refused: the answer's body says what is wrong with it."""
    content = getattr(_answer(error), "content", None)
    # Its encoding isn't worth being guessed.
    answer = content[:_ANSWER_BYTES].decode(errors="replace") if isinstance(content, bytes) else ""
    answer = " ".join(answer.split())
    said = without_secrets(answer)[:_ANSWER_CHARACTERS]  # cut first, it could show the beginning of one
    return ": ".join(filter(None, (str(error), said)))


def _retry_after(error: BaseException) -> float | None:
    """The seconds that the answer asks to be waited for: https://www.rfc-editor.org/rfc/rfc9110#field.retry-after."""
    asked = getattr(getattr(error, "response", None), "headers", {}).get("Retry-After", "").strip()
    return min(float(asked), _LONGEST_WAIT) if asked.isascii() and asked.isdigit() else None


def _show(logger: logging.Logger) -> None:
    """Have the events seen that the console transport only logs; standard output is dbt's."""
    if not logger.isEnabledFor(logging.INFO) or not logging.getLogger().handlers:
        logger.setLevel(logging.INFO)
        logger.addHandler(logging.StreamHandler(Errors()))
        logger.propagate = False


class _Client(OpenLineageClient):
    """Looks through the environment for variables to add to an event only where it is to add some."""

    def add_environment_facets(self, event: OpenLineageEvent) -> OpenLineageEvent:
        """See the client's."""
        return super().add_environment_facets(event) if self.config.facets.environment_variables else event


def _configured_client() -> OpenLineageClient:
    """The client that the environment configures.

    It writes the variables that it makes of `OPENLINEAGE_URL` and the API key into our environment, where they would
    outlast a change of these, and reach dbt: they are taken out again.
    """
    before = set(os.environ)
    client = _Client()
    for name in set(os.environ) - before:
        if name.startswith(settings.OPENLINEAGE_PREFIX):
            del os.environ[name]
    return client
