"""OpenLineage's transports, each by its own configuration: what arrives, and what our cursor says of it."""

from __future__ import annotations

import enum
import gzip
import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from uuid import UUID

import pytest
from openlineage.client.event_v2 import Job, Run, RunEvent
from openlineage.client.facet_v2 import job_dependencies_run
from openlineage.client.serde import Serde
from openlineage.client.transport import get_default_factory

from spanline import events
from spanline.events import Event
from spanline.home.cursor import Cursor
from spanline.home.home import RunDirectory
from spanline.sinks.openlineage.transport import json_of
from spanline.supervisor.replay import replay
from tests.support.journals import session_started, undelivered
from tests.support.lineage_events import closed, described, finished, in_order, invoked, opened, started
from tests.support.project import SPANLINE
from tests.support.receivers import answer, serving

ROOT = Path(__file__).parents[3]
RUN_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
HAPPENED: list[Event] = [
    session_started(RUN_ID),
    events.AttemptStarted(argv=["build"], pid=1, python="p"),
    events.DbtConfigured(adapter_type="duckdb", adapter_version="1", project="shop"),
    events.NodeDescribed(unique_id="model.shop.a", resource_type="model", name="a", package_name="shop"),
    events.NodeStarted(unique_id="model.shop.a", thread="t"),
    events.RunnerDied(signal="SIGKILL"),
    events.SessionEnded(outcome="died", exit_code=2),
]
SENT = ["START", "START", "ABORT", "ABORT"]  # the session around the node


@dataclass
class Backend:
    """A real HTTP server that keeps bodies and headers, and issues tokens at `/token`."""

    url: str = ""
    status: int = 200
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    token_requests: list[str] = field(default_factory=list)

    @property
    def kinds(self) -> list[str]:
        return [json.loads(body)["eventType"] for body in self.bodies]


@pytest.fixture
def backend() -> Iterator[Backend]:
    kept = Backend()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/token":
                kept.token_requests.append(body.decode())
                return answer(self, 200, b'{"access_token": "short-lived", "expires_in": 3600}')
            kept.headers.append(dict(self.headers))
            kept.bodies.append(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            return answer(self, kept.status, b"")

    with serving(Handler) as kept.url:
        yield kept


@pytest.fixture
def kept(tmp_path: Path) -> RunDirectory:
    """A run of which nothing has been delivered."""
    return undelivered(tmp_path, RUN_ID, HAPPENED)


Send = Callable[..., Cursor]


@pytest.fixture
def send(kept: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Send:
    """Deliver the kept run over a transport, configured as openlineage-python documents it."""
    monkeypatch.chdir(tmp_path)  # the client looks for a git repository here, and adds it to every job

    def send_over(transport: dict[str, object], timeout: float = 20.0) -> Cursor:
        file = tmp_path / "openlineage.yml"
        file.write_text(json.dumps({"transport": transport}))
        with monkeypatch.context() as patch:
            patch.setenv("OPENLINEAGE_CONFIG", str(file))
            return replay(kept, everything=False, timeout=timeout)["openlineage"]

    return send_over


def assert_all_delivered(cursor: Cursor) -> None:
    assert (cursor.delivered, cursor.rejected, cursor.undelivered, cursor.complete) == (len(SENT), 0, 0, True)


# --- http


class Kind(enum.Enum):
    """A value that isn't of JSON."""

    ONE = "one"


ODD: dict[str, object] = {
    "a name with an \u00e4": None,
    "lists": [None, {}, {"none": None}, [], [[None]], ("tuple", Kind.ONE), 1.5, True, float("inf")],
    "enum": Kind.ONE,
    "moment": datetime(2026, 12, 1, tzinfo=timezone.utc),
    "uuid": UUID(RUN_ID),
    "set": frozenset(["one"]),
    "object": Kind,
}


@pytest.mark.parametrize("value", [ODD, *ODD.values()])
def test_an_event_is_written_as_the_client_writes_it(value: object) -> None:
    job = job_dependencies_run.JobIdentifier(namespace="n", name=value)
    facet = job_dependencies_run.JobDependenciesRunFacet(upstream=[value, job], producer="a:b")
    run = Run(runId=RUN_ID, facets={"odd": facet})
    event = RunEvent(eventTime="2026-12-01T00:00:00Z", run=run, job=Job("n", "j"))
    assert json_of(event) == Serde.to_json(event)


def test_http_by_its_two_variables(kept: RunDirectory, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENLINEAGE_URL", backend.url)
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "the-key")
    assert_all_delivered(replay(kept, everything=False, timeout=20)["openlineage"])
    assert backend.kinds == SENT
    assert {headers["Authorization"] for headers in backend.headers} == {"Bearer the-key"}


@pytest.mark.parametrize(("times", "taken"), [(1, True), (3, True), (1000, False)])
def test_a_backend_that_is_only_starting_gets_events_of_jobs_and_one_that_knows_none_is_left_in_peace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int, taken: bool
) -> None:
    """DataHub, as released, answers 500 to what is no event of a run; others may so often to any."""
    exposures = [f"exposure.shop.e{number}" for number in range(12)]
    happened = in_order(
        opened(), invoked(), described("model.shop.a"), started("model.shop.a"), finished("model.shop.a"),
        [described(e, relation=None, depends_on=["model.shop.a"]) for e in exposures], closed(),
    )  # fmt: skip
    directory = undelivered(tmp_path / "exposed", RUN_ID, happened)
    tries: Counter[str] = Counter()

    class NoJobs(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = event["job"]["name"] if "run" not in event else ""
            tries[name] += bool(name)
            answer(self, 500 if name and tries[name] <= times else 201)

    with serving(NoJobs) as url:
        monkeypatch.setenv("OPENLINEAGE_URL", url)
        cursor = replay(directory, everything=False, timeout=20)["openlineage"]
    assert (cursor.rejected, cursor.complete) == (0 if taken else len(exposures), True)
    assert {name for name in tries if name} == set(exposures)
    assert max(tries.values()) <= 4


def test_http_by_the_clients_dynamic_variables(
    kept: RunDirectory, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"TYPE": "http", "URL": backend.url, "COMPRESSION": "gzip"}.items():
        monkeypatch.setenv(f"OPENLINEAGE__TRANSPORT__{name}", value)
    assert_all_delivered(replay(kept, everything=False, timeout=20)["openlineage"])
    assert backend.kinds == SENT
    assert {headers["Content-Encoding"] for headers in backend.headers} == {"gzip"}


@pytest.mark.parametrize(
    ("auth", "asked_for"),
    [
        ({"type": "jwt", "apiKey": "k"}, "apikey=k"),
        ({"type": "oauth2", "clientId": "id", "clientSecret": "s"}, "grant_type=client_credentials"),
    ],
    ids=["jwt", "oauth2"],
)
def test_http_with_a_token_endpoint_asks_it_once(
    send: Send, backend: Backend, auth: dict[str, str], asked_for: str
) -> None:
    auth = {**auth, "tokenEndpoint": f"{backend.url}/token"}
    assert_all_delivered(send({"type": "http", "url": backend.url, "auth": auth}))
    assert {headers["Authorization"] for headers in backend.headers} == {"Bearer short-lived"}
    (request,) = backend.token_requests
    assert asked_for in request


def test_http_with_gzip_a_key_and_headers_of_ones_own(send: Send, backend: Backend) -> None:
    cursor = send(
        {
            "type": "http",
            "url": backend.url,
            "endpoint": "lineage/here",
            "compression": "gzip",
            "auth": {"type": "api_key", "apiKey": "the-key"},
            "custom_headers": {"X-Tenant": "shop"},
        }
    )
    assert_all_delivered(cursor)
    assert backend.kinds == SENT
    for headers in backend.headers:
        assert (headers["Authorization"], headers["X-Tenant"]) == ("Bearer the-key", "shop")


# --- file, console, noop


def test_file_appends_a_line_for_each_event(send: Send, tmp_path: Path) -> None:
    assert_all_delivered(send({"type": "file", "log_file_path": str(tmp_path / "lineage.jsonl"), "append": True}))
    lines = (tmp_path / "lineage.jsonl").read_text().splitlines()
    assert [json.loads(line)["eventType"] for line in lines] == SENT


def test_file_is_by_default_a_file_for_each_event(send: Send, tmp_path: Path) -> None:
    assert_all_delivered(send({"type": "file", "log_file_path": str(tmp_path / "event")}))
    files = sorted(tmp_path.glob("event-*.json"))
    assert [json.loads(file.read_text())["eventType"] for file in files] == SENT


def test_a_file_that_cannot_be_written_is_tried_again(send: Send, tmp_path: Path) -> None:
    cursor = send({"type": "file", "log_file_path": str(tmp_path / "no" / "such"), "append": True}, timeout=0.5)
    assert (cursor.delivered, cursor.undelivered) == (0, len(SENT))
    (tmp_path / "no").mkdir()
    assert_all_delivered(send({"type": "file", "log_file_path": str(tmp_path / "no" / "such"), "append": True}))


def test_console_goes_to_the_logger_of_its_name(send: Send, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="openlineage.client.transport.console"):
        assert_all_delivered(send({"type": "console"}))
    told = [r.getMessage() for r in caplog.records if r.name == "openlineage.client.transport.console"]
    assert [json.loads(message)["eventType"] for message in told] == SENT


def test_console_is_seen_on_the_command_line(kept: RunDirectory) -> None:
    environment = {**os.environ, "OPENLINEAGE__TRANSPORT__TYPE": "console"}
    home = kept.path.parents[1]
    done = subprocess.run(
        [SPANLINE, "--home", str(home), "replay", RUN_ID], env=environment, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr.count(b'"eventType"') + done.stdout.count(b'"eventType"') == len(SENT)


def test_noop_sends_nothing_and_counts_it_as_delivered(send: Send) -> None:
    assert_all_delivered(send({"type": "noop"}))


# --- transports of transports


def test_composite_sends_to_all_of_its_transports(send: Send, backend: Backend, tmp_path: Path) -> None:
    file = {"type": "file", "log_file_path": str(tmp_path / "lineage.jsonl"), "append": True}
    assert_all_delivered(send({"type": "composite", "transports": [{"type": "http", "url": backend.url}, file]}))
    assert backend.kinds == SENT
    assert len((tmp_path / "lineage.jsonl").read_text().splitlines()) == len(SENT)


def test_composite_that_continues_on_failure_counts_what_one_of_them_took(
    send: Send, backend: Backend, tmp_path: Path
) -> None:
    """Its default, and why it is in the table as handed over."""
    backend.status = 400
    file = {"type": "file", "log_file_path": str(tmp_path / "lineage.jsonl"), "append": True}
    assert_all_delivered(send({"type": "composite", "transports": [{"type": "http", "url": backend.url}, file]}))


def test_composite_that_stops_on_failure_is_tried_again_as_a_whole(
    send: Send, backend: Backend, tmp_path: Path
) -> None:
    file = {"type": "file", "log_file_path": str(tmp_path / "lineage.jsonl"), "append": True}
    http = {"type": "http", "url": backend.url, "retry": {"total": 0}}
    composite = {"type": "composite", "continue_on_failure": False, "transports": [file, http]}
    backend.status = 503
    cursor = send(composite, timeout=0.5)
    assert (cursor.delivered, cursor.complete) == (0, False)
    backend.status = 200
    assert_all_delivered(send(composite))
    lines = (tmp_path / "lineage.jsonl").read_text().splitlines()
    assert len(lines) > len(SENT), "the one that had taken it gets it again"
    assert len(set(lines)) == len(SENT), "byte for byte the same"


def test_a_rejection_within_a_composite_is_one(send: Send, backend: Backend) -> None:
    backend.status = 400
    http = {"type": "http", "url": backend.url}
    cursor = send({"type": "composite", "continue_on_failure": False, "transports": [http]}, timeout=2)
    assert (cursor.rejected, cursor.undelivered, cursor.complete) == (len(SENT), 0, True)


def test_transform_changes_events_on_their_way(send: Send, backend: Backend) -> None:
    replacer = "openlineage.client.transport.transform.transformers.job_namespace_replace_transformer"
    cursor = send(
        {
            "type": "transform",
            "transformer_class": f"{replacer}.JobNamespaceReplaceTransformer",
            "transformer_properties": {"new_job_namespace": "elsewhere"},
            "transport": {"type": "http", "url": backend.url},
        }
    )
    assert_all_delivered(cursor)
    assert {json.loads(body)["job"]["namespace"] for body in backend.bodies} == {"elsewhere"}


# --- asynchronous ones


def test_async_http_sends_everything_before_the_run_ends(send: Send, backend: Backend) -> None:
    assert_all_delivered(send({"type": "async_http", "url": backend.url}))
    assert sorted(backend.kinds) == sorted(SENT)


@pytest.mark.slow
def test_what_async_http_could_not_send_is_not_called_delivered(send: Send) -> None:
    cursor = send({"type": "async_http", "url": "http://127.0.0.1:9", "retry": {"total": 0}})
    assert not cursor.complete


# --- the table


def test_every_transport_is_in_the_table_with_what_its_word_is_worth() -> None:
    text = (ROOT / "docs" / "transports.md").read_text()
    rows = dict(re.findall(r"^\| `(\w[\w-]*)`[^|]*\| \*\*(delivered|handed over)\*\*", text, re.M))
    assert set(rows) >= set(get_default_factory().transports)


def test_a_configuration_that_is_not_there_turns_it_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from spanline.sinks import builtin

    monkeypatch.setenv("OPENLINEAGE_CONFIG", str(tmp_path / "nothing.yml"))
    monkeypatch.delenv("OPENLINEAGE_URL", raising=False)
    with pytest.raises(LookupError, match="and there is no such file"):
        builtin.openlineage()
