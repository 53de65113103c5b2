"""Many small requests to one address: what is the same in each is worked out once, and no answer is trusted.

Of the time that `requests` takes for a small POST, over a half goes into headers, cookies, `.netrc`, proxies and
certificates that are what they were the last time. It also sends the head and the body of a request one after the
other, which wakes the backend twice; on one machine, it takes the processor from dbt twice.

Of an answer `requests` keeps all that comes, unpacked, for as long as a byte comes before each time-out. Here it is
64 KiB of text at most, in the time that one read may take.
"""

from __future__ import annotations

import copy
import io
import time
from functools import partial
from http.client import HTTPResponse
from typing import Any, Final
from urllib.parse import urljoin

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers
from urllib3 import BaseHTTPResponse
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

LONGEST_ANSWER: Final = 1 << 16
"""Bytes: backends say in a line what is wrong with an event. What else comes is left, and the connection closed."""
_SAME_REQUEST: Final = frozenset((307, 308))
"""Redirects that keep method and body: https://www.rfc-editor.org/rfc/rfc9110#name-redirection-3xx."""


class RepeatingSession(requests.Session):
    """Sends the same request again and again, each time with another body. Not thread-safe; it keeps no cookies."""

    _asked: tuple[object, ...] = ()
    _prepared: requests.PreparedRequest | None = None
    _settings: dict[str, Any] | None = None

    def __init__(self) -> None:
        super().__init__()
        for scheme in ("http://", "https://"):
            self.mount(scheme, Adapter())

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        """The last request with another body, where nothing else differs."""
        asked = (request.method, request.url, dict(request.headers), request.auth)
        if self._prepared is None or asked != self._asked:
            self._asked = asked
            self._prepared = super().prepare_request(request)
            return self._prepared
        prepared = copy.copy(self._prepared)
        prepared.headers = self._prepared.headers.copy()
        prepared.prepare_body(request.data, None)
        return prepared

    def merge_environment_settings(self, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - as `requests` has it
        """What was found the first time: one address, one set of options."""
        if self._settings is None:
            self._settings = dict(super().merge_environment_settings(*arguments, **named))
            if isinstance(self.verify, str):  # the backend's own certificates go before those of REQUESTS_CA_BUNDLE
                self._settings["verify"] = self.verify
        return dict(self._settings)

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # noqa: ANN401 - as above
        """Send, and read the answer.

        Raises `Redirected` where the answer is to look elsewhere, unless that can be done with the same request.
        """
        connection = {name: options[name] for name in ("timeout", "verify", "cert", "proxies")}
        answer = self.get_adapter(url=request.url or "").send(request, **connection)
        if answer.is_redirect:
            if answer.status_code not in _SAME_REQUEST or not options["allow_redirects"]:
                raise Redirected(answer)
            *_, answer = self.resolve_redirects(answer, request, **connection)
        return answer


class Adapter(HTTPAdapter):
    """Sends a request at once, and takes of its answer what may be wanted: for any session of `requests`."""

    _pool: tuple[tuple[object, ...], Any] | None = None
    _target: tuple[tuple[object, ...], str] | None = None

    def init_poolmanager(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - as `requests` has it
        """See `requests`'."""
        super().init_poolmanager(*arguments, **named)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}

    def get_connection_with_tls_context(self, request: Any, verify: Any, proxies: Any = None, cert: Any = None) -> Any:  # noqa: ANN401 - as above
        """The pool of the last request, where nothing differs that decides on it: else certificates are looked for."""
        asked = (request.url, verify, dict(proxies or {}), cert)
        if self._pool is None or self._pool[0] != asked:
            self._pool = (asked, super().get_connection_with_tls_context(request, verify, proxies, cert))
        return self._pool[1]

    def request_url(self, request: Any, proxies: Any) -> str:  # noqa: ANN401 - as above
        """What the last request asked for, where the address is the same."""
        asked = (request.url, dict(proxies or {}))
        if self._target is None or self._target[0] != asked:
            self._target = (asked, super().request_url(request, proxies))
        return self._target[1]

    def build_response(self, request: Any, raw: Any) -> requests.Response:  # noqa: ANN401 - as above
        """The answer, without its cookies: whoever keeps some takes them from `raw`."""
        answer = requests.Response()
        answer.status_code, answer.reason, answer.raw = raw.status, raw.reason, raw
        answer.headers = CaseInsensitiveDict(raw.headers)
        answer.encoding = get_encoding_from_headers(answer.headers)
        answer.url, answer.request, answer.connection = request.url, request, self
        return answer

    def close(self) -> None:
        """Close all connections."""
        self._pool = None
        super().close()

    def add_headers(self, request: requests.PreparedRequest, **_: Any) -> None:  # noqa: ANN401 - as above
        """Ask for text as it is: what is packed may be of any size, and is left unread."""
        request.headers["Accept-Encoding"] = "identity"

    def send(self, *arguments: Any, **named: Any) -> requests.Response:  # noqa: ANN401 - as above
        """Send, and read the answer, of which no more is left to be read."""
        answer = super().send(*arguments, **named)
        try:
            content = _start_of(answer.raw)
        except HTTPError as error:
            raise requests.ConnectionError(error, request=answer.request) from error
        if len(content) > LONGEST_ANSWER:
            answer.close()
        packed = answer.headers.get("Content-Encoding", "identity") != "identity"
        answer._content = b"" if packed else content[:LONGEST_ANSWER]
        answer._content_consumed = True
        return answer


def _start_of(raw: BaseHTTPResponse) -> bytes:
    """The first bytes of what is sent as an answer: all of it, or more than is wanted."""
    found = b""
    while len(found) <= LONGEST_ANSWER and (piece := raw.read(LONGEST_ANSWER + 1 - len(found), decode_content=False)):
        found += piece
    return found


class _Answer(HTTPResponse):
    """An answer that has to be there, head and body, by a moment: monotonic, in seconds; never where there is none."""

    def __init__(self, sock: Any, *arguments: Any, until: float | None, **named: Any) -> None:  # noqa: ANN401
        super().__init__(sock, *arguments, **named)
        if until is not None:
            self.fp = io.BufferedReader(_InTime(self.fp.detach(), sock, until))


class _InTime(io.RawIOBase):
    """What a socket brings until a moment. Without it each byte would have as long as all of them together."""

    def __init__(self, raw: io.RawIOBase, sock: Any, until: float) -> None:  # noqa: ANN401 - plain, or TLS
        self._raw, self._sock, self._until = raw, sock, until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401 - as `io` has it
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer takes too long")
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Carefully:
    """Of a connection: what a request consists of is sent together, and its answer has one time-out for all of it."""

    debuglevel = 0
    """Whatever a caller has set for all connections: by it, keys would be printed."""
    timeout: float | None
    response_class: Any
    _held: list[bytes] | None = None

    def connect(self) -> None:
        self._expect_answer()  # a proxy's, to CONNECT
        super().connect()  # type: ignore[misc]

    def request(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - as `urllib3` has it
        self._held = []
        try:
            super().request(*arguments, **named)  # type: ignore[misc]
        finally:
            held, self._held = self._held, None
        self.send(b"".join(held))

    def send(self, data: Any) -> None:  # noqa: ANN401 - as above
        if self._held is None:
            super().send(data)  # type: ignore[misc]
        else:
            self._held.append(data)

    def getresponse(self) -> Any:  # noqa: ANN401 - as above
        self._expect_answer()
        answer = super().getresponse()  # type: ignore[misc]
        answer.drain_conn = answer.close  # before another try, all of it would be read
        return answer

    def _expect_answer(self) -> None:
        until = None if self.timeout is None else time.monotonic() + self.timeout
        self.response_class = partial(_Answer, until=until)


class _Connection(_Carefully, HTTPConnection):
    pass


class _SecureConnection(_Carefully, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class Redirected(requests.RequestException):
    """The backend is elsewhere. To follow would turn a POST into a GET, which delivers nothing."""

    def __init__(self, answer: requests.Response) -> None:
        where = urljoin(answer.url, answer.headers["Location"])
        super().__init__(
            f"{answer.url} redirects to {where} ({answer.status_code}): name that address", response=answer
        )
