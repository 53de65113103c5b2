"""A session of `requests` for many small requests to one address: what is the same in each is worked out once.

Of the time that `requests` takes for a small POST, over a half goes into headers, cookies, `.netrc`, proxies and
certificates that are what they were the last time.
"""

from __future__ import annotations

import copy
from typing import Any, Final
from urllib.parse import urljoin

import requests

_SAME_REQUEST: Final = frozenset((307, 308))
"""Redirects that keep method and body: https://www.rfc-editor.org/rfc/rfc9110#name-redirection-3xx."""


class RepeatingSession(requests.Session):
    """Sends the same request again and again, but for its body. Not for several threads; it keeps no cookies."""

    _asked: tuple[object, ...] = ()
    _prepared: requests.PreparedRequest | None = None
    _settings: dict[str, Any] | None = None

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


class Redirected(requests.RequestException):
    """The backend is elsewhere. To follow would turn a POST into a GET, which delivers nothing."""

    def __init__(self, answer: requests.Response) -> None:
        where = urljoin(answer.url, answer.headers["Location"])
        super().__init__(
            f"{answer.url} redirects to {where} ({answer.status_code}): name that address", response=answer
        )
