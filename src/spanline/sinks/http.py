"""A session of `requests` for many small requests to one address: what is the same in each is worked out once.

Of the time that `requests` takes for a small POST, over a half goes into headers, cookies, `.netrc`, proxies and
certificates that are what they were the last time. It also sends the head and the body of a request one after the
other, which wakes the backend twice; on one machine, it takes the processor from dbt twice.
"""

from __future__ import annotations

import copy
from typing import Any, Final
from urllib.parse import urljoin

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

_SAME_REQUEST: Final = frozenset((307, 308))
"""Redirects that keep method and body: https://www.rfc-editor.org/rfc/rfc9110#name-redirection-3xx."""


class RepeatingSession(requests.Session):
    """Sends the same request again and again, but for its body. Not for several threads; it keeps no cookies."""

    _asked: tuple[object, ...] = ()
    _prepared: requests.PreparedRequest | None = None
    _settings: dict[str, Any] | None = None

    def __init__(self) -> None:
        super().__init__()
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter())

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
        answer.content  # noqa: B018 - reads it, which gives the connection back
        return answer


class _WritesOnce:
    """Of a connection: what a request consists of is sent together."""

    _held: list[bytes] | None = None

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


class _Connection(_WritesOnce, HTTPConnection):
    pass


class _SecureConnection(_WritesOnce, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - as `requests` has it
        super().init_poolmanager(*arguments, **named)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}


class Redirected(requests.RequestException):
    """The backend is elsewhere. To follow would turn a POST into a GET, which delivers nothing."""

    def __init__(self, answer: requests.Response) -> None:
        where = urljoin(answer.url, answer.headers["Location"])
        super().__init__(
            f"{answer.url} redirects to {where} ({answer.status_code}): name that address", response=answer
        )
