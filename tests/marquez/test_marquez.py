"""`marquez/`: the compose file against the compose specification's own schema, and `marquez/check`.

Only the test with the mark `marquez` talks to a Marquez. All others give `check` answers written down here, in the
shapes of Marquez 0.51's API as its source has them: they show that `check` finds differences, not that there are none.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import jsonschema
import pytest
import yaml

from spanline import events
from tests.support.journals import session_started, undelivered
from tests.support.receivers import answer, serving

FOLDER = Path(__file__).parents[2] / "marquez"
CHECK = FOLDER / "check"

# --- the compose file ------------------------------------------------------------------------------------------------

GO_MODULES = Path(os.environ.get("GOMODCACHE") or Path.home() / "go" / "pkg" / "mod")
SCHEMAS = sorted(GO_MODULES.glob("github.com/compose-spec/compose-go/v2@*/schema/compose-spec.json"))


@pytest.fixture(scope="module")
def composed() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "docker-compose.yml").read_text())
    return found


@pytest.mark.skipif(not SCHEMAS, reason="needs: go mod download github.com/compose-spec/compose-go/v2@latest")
def test_compose_file_is_one_by_the_compose_specification(composed: dict[str, Any]) -> None:
    jsonschema.validate(composed, json.loads(SCHEMAS[-1].read_text()))


def test_images_are_pinned(composed: dict[str, Any]) -> None:
    images = {name: service["image"] for name, service in composed["services"].items()}
    assert all(re.fullmatch(r"[\w/-]+:\d+\.\d+(\.\d+)?", image) for image in images.values()), images
    assert images["marquez"].partition(":")[2] == images["web"].partition(":")[2]


def test_each_service_says_when_it_is_healthy(composed: dict[str, Any]) -> None:
    assert all("healthcheck" in service for service in composed["services"].values())


def test_ports_are_those_of_the_readme_and_of_this_machine_only(composed: dict[str, Any]) -> None:
    ports = [port for service in composed["services"].values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    inside = {port.rpartition(":")[2] for port in ports}
    assert inside == {"5000", "5001", "3000", "16686", "4317", "4318"}
    readme = (FOLDER / "README.md").read_text()
    assert all(port in readme for port in inside)


def test_volumes_are_declared(composed: dict[str, Any]) -> None:
    mounts = [mount for service in composed["services"].values() for mount in service.get("volumes", [])]
    assert {mount.partition(":")[0] for mount in mounts} == set(composed["volumes"])


def test_marquez_health_check_line_sees_a_pong(composed: dict[str, Any]) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/ping" else 404)
            self.end_headers()
            self.wfile.write(b"pong\n" if self.path == "/ping" else b"")

    _, *line = composed["services"]["marquez"]["healthcheck"]["test"]
    with serving(Handler) as url:
        here = [part.replace("/5001", f"/{url.rpartition(':')[2]}") for part in line]
        assert subprocess.run(here, timeout=10, check=False).returncode == 0
    assert subprocess.run(here, timeout=10, check=False, stderr=subprocess.DEVNULL).returncode != 0


# --- check, on answers written down here: no Marquez is in what follows ----------------------------------------------

SESSION, NODE = "01890a5d-ac96-774b-bcce-b302099a8057", "01890a5d-ac96-774b-bcce-b302099a8058"
TEST = "01890a5d-ac96-774b-bcce-b302099a8059"
DUCKDB = "duckdb://shop.duckdb"
ORDERS, TOTALS = {"namespace": DUCKDB, "name": "shop.main.orders"}, {"namespace": DUCKDB, "name": "shop.main.totals"}
JOB = "dbt-run-shop.shop.main.totals.build.run"
TEST_JOB = "dbt-run-shop.test.shop.never"
NEVER = {"assertion": "custom_sql", "name": "never", "success": False}
ENGINE = {"processing_engine": {"name": "dbt", "version": "1.11.0"}}
PARENT = {"run": {"runId": SESSION}, "job": {"namespace": "dbt", "name": "dbt-run-shop"}}


def _event(kind: str, second: int, run_id: str, **more: Any) -> dict[str, Any]:
    run = {"runId": run_id, "facets": ENGINE if run_id == SESSION else ENGINE | {"parent": PARENT}}
    name = {SESSION: "dbt-run-shop", NODE: "shop.main.totals.build.run", TEST: "test.shop.never"}[run_id]
    job = {"namespace": "dbt", "name": name, "facets": {"jobType": {"integration": "DBT"}}}
    return {"eventType": kind, "eventTime": f"2026-01-01T00:00:0{second}.5+00:00", "run": run, "job": job} | more


SENT = [
    _event("START", 0, SESSION),
    _event("START", 1, NODE, inputs=[ORDERS], outputs=[TOTALS]),
    _event(
        "COMPLETE",
        2,
        NODE,
        inputs=[ORDERS | {"facets": {"schema": {"fields": [{"name": "amount", "type": "INTEGER"}]}}}],
        outputs=[
            TOTALS
            | {
                "facets": {
                    "documentation": {"description": "Sums."},
                    "schema": {"fields": [{"name": "total", "type": "HUGEINT"}]},
                    "columnLineage": {"fields": {"total": {"inputFields": [ORDERS | {"field": "amount"}]}}},
                }
            }
        ],
    ),
    _event("START", 2, TEST, inputs=[TOTALS]),
    _event("FAIL", 3, TEST, inputs=[TOTALS | {"inputFacets": {"dataQualityAssertions": {"assertions": [NEVER]}}}]),
    _event("COMPLETE", 4, SESSION),
]


def _run(run_id: str, start: int, end: int, **more: Any) -> dict[str, Any]:
    times = {"startedAt": f"2026-01-01T00:00:0{start}.500Z", "endedAt": f"2026-01-01T00:00:0{end}.500Z"}
    return {"id": run_id, "state": "COMPLETED", "facets": ENGINE} | times | more


def _version(version: str, second: int, run_id: str | None) -> dict[str, Any]:
    made = {"version": version, "createdAt": f"2026-01-01T00:00:0{second}.500Z"}
    return made | {"createdByRun": {"id": run_id} if run_id else None}


def _edge(origin: str, destination: str) -> dict[str, str]:
    return {"origin": origin, "destination": destination}


NODE_ID, TEST_ID, ORDERS_ID, TOTALS_ID = (
    f"job:dbt:{JOB}",
    f"job:dbt:{TEST_JOB}",
    f"dataset:{DUCKDB}:shop.main.orders",
    f"dataset:{DUCKDB}:shop.main.totals",
)
ANSWERS: dict[str, Any] = {
    "namespaces": {"namespaces": [{"name": "default"}, {"name": "dbt"}, {"name": DUCKDB}]},
    f"jobs/runs/{SESSION}": _run(SESSION, 0, 4, inputDatasetVersions=[], outputDatasetVersions=[]),
    f"jobs/runs/{NODE}": _run(
        NODE,
        1,
        2,
        facets=ENGINE | {"parent": PARENT},
        inputDatasetVersions=[{"datasetVersionId": ORDERS | {"version": "v1"}, "facets": {}}],
        outputDatasetVersions=[{"datasetVersionId": TOTALS | {"version": "v2"}, "facets": {}}],
    ),
    f"jobs/runs/{TEST}": _run(
        TEST,
        2,
        3,
        state="FAILED",
        facets=ENGINE | {"parent": PARENT},
        inputDatasetVersions=[{"datasetVersionId": TOTALS | {"version": "v2"}, "facets": {}}],
        outputDatasetVersions=[],
    ),
    "namespaces/dbt/jobs/dbt-run-shop": {"name": "dbt-run-shop", "facets": {"jobType": {}}, "parentJobName": None},
    "namespaces/dbt/jobs/dbt-run-shop/runs": {"runs": [{"id": SESSION}], "totalCount": 1},
    f"namespaces/dbt/jobs/{JOB}": {"name": JOB, "facets": {"jobType": {}}, "parentJobName": "dbt-run-shop"},
    f"namespaces/dbt/jobs/{JOB}/runs": {"runs": [{"id": NODE}], "totalCount": 1},
    f"namespaces/dbt/jobs/{TEST_JOB}": {"name": TEST_JOB, "facets": {"jobType": {}}, "parentJobName": "dbt-run-shop"},
    f"namespaces/dbt/jobs/{TEST_JOB}/runs": {"runs": [{"id": TEST}], "totalCount": 1},
    f"namespaces/{DUCKDB}/datasets/shop.main.orders": ORDERS
    | {"fields": [{"name": "amount", "type": "INTEGER"}], "facets": {}, "sourceName": "default"},
    f"namespaces/{DUCKDB}/datasets/shop.main.totals": TOTALS
    | {
        "fields": [{"name": "total", "type": "HUGEINT"}],
        "facets": {
            "documentation": {},
            "schema": {},
            "columnLineage": {},
            "dataQualityAssertions": {"assertions": [NEVER]},
        },
        "description": "Sums.",
        "sourceName": "default",
        "currentVersion": "v2",
    },
    f"namespaces/{DUCKDB}/datasets/shop.main.totals/versions": {
        "versions": [_version("v2", 2, NODE)],
        "totalCount": 1,
    },
    f"lineage {NODE_ID}": {
        "graph": [
            {"id": NODE_ID, "inEdges": [_edge(ORDERS_ID, NODE_ID)], "outEdges": [_edge(NODE_ID, TOTALS_ID)]},
            {"id": ORDERS_ID, "inEdges": [], "outEdges": [_edge(ORDERS_ID, NODE_ID)]},
            {"id": TOTALS_ID, "inEdges": [_edge(NODE_ID, TOTALS_ID)], "outEdges": []},
        ]
    },
    f"lineage {TEST_ID}": {
        "graph": [
            {"id": TEST_ID, "inEdges": [_edge(TOTALS_ID, TEST_ID)], "outEdges": []},
            {"id": TOTALS_ID, "inEdges": [], "outEdges": [_edge(TOTALS_ID, TEST_ID)]},
        ]
    },
    f"column-lineage {TOTALS_ID}": {
        "graph": [
            {
                "id": f"datasetField:{DUCKDB}:shop.main.totals:total",
                "data": {
                    "namespace": DUCKDB,
                    "dataset": "shop.main.totals",
                    "field": "total",
                    "inputFields": [{"namespace": DUCKDB, "dataset": "shop.main.orders", "field": "amount"}],
                },
            }
        ]
    },
    "events/lineage": {"events": SENT, "totalCount": len(SENT)},
}


@dataclass
class Answering:
    """An HTTP server with answers by path and node id; 404 for all else. It is no Marquez."""

    url: str = ""
    answers: dict[str, Any] = field(default_factory=lambda: copy.deepcopy(ANSWERS))
    post_status: int = 201
    posted: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture
def answering() -> Iterator[Answering]:
    kept = Answering()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            node_id = parse_qs(parts.query).get("nodeId", [""])[0]
            path = "/".join(map(unquote, parts.path.removeprefix("/api/v1/").split("/")))
            found = kept.answers.get(f"{path} {node_id}".strip())
            answer(self, 404 if found is None else 200, json.dumps(found).encode())

        def do_POST(self) -> None:
            kept.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            answer(self, kept.post_status, b"")

    with serving(Handler) as kept.url:
        yield kept


@pytest.fixture(scope="module")
def check() -> ModuleType:
    loader = SourceFileLoader("marquez_check", str(CHECK))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = module
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    loader.exec_module(module)
    sys.dont_write_bytecode = before
    return module


@pytest.fixture
def differences(check: ModuleType, answering: Answering, tmp_path: Path) -> Any:
    """What `check` says of the four events above, as answered."""
    file = tmp_path / "events.jsonl"
    file.write_text("\n".join(map(json.dumps, SENT)))

    def found() -> list[str]:
        marquez = check.Marquez(answering.url)
        return list(check.differences(marquez, check.send_file(marquez, file)))

    return found


def test_nothing_to_say_when_all_is_there(differences: Any, answering: Answering) -> None:
    assert differences() == []
    assert answering.posted == SENT


def test_each_thing_that_is_missing_is_a_difference(differences: Any, answering: Answering) -> None:
    for path in ANSWERS:
        if path not in ("namespaces", "events/lineage") and not path.endswith(
            ("/runs", "/versions")
        ):  # lists, never 404
            answering.answers = {key: value for key, value in copy.deepcopy(ANSWERS).items() if key != path}
            assert differences(), path


def _state(answers: dict[str, Any]) -> None:
    answers[f"jobs/runs/{NODE}"]["state"] = "RUNNING"


def _moved_start(answers: dict[str, Any]) -> None:
    answers[f"jobs/runs/{NODE}"]["startedAt"] = "2026-01-01T00:00:02.500Z"


def _no_output(answers: dict[str, Any]) -> None:
    answers[f"jobs/runs/{NODE}"]["outputDatasetVersions"] = []


def _no_parent(answers: dict[str, Any]) -> None:
    answers[f"namespaces/dbt/jobs/{JOB}"]["parentJobName"] = None


def _unlisted_run(answers: dict[str, Any]) -> None:
    answers[f"namespaces/dbt/jobs/{JOB}/runs"]["runs"] = []


def _no_column(answers: dict[str, Any]) -> None:
    answers[f"namespaces/{DUCKDB}/datasets/shop.main.totals"]["fields"] = []


def _no_description(answers: dict[str, Any]) -> None:
    answers[f"namespaces/{DUCKDB}/datasets/shop.main.totals"]["description"] = None


def _versions(answers: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = answers[f"namespaces/{DUCKDB}/datasets/shop.main.totals/versions"]["versions"]
    return found


def _two_versions(answers: dict[str, Any]) -> None:
    _versions(answers).append(_version("v3", 2, NODE))


def _version_of_nobody(answers: dict[str, Any]) -> None:
    _versions(answers).append(_version("v3", 1, None))


def _older_version_of_nobody(answers: dict[str, Any]) -> None:
    _versions(answers).append(_version("v1", 0, None) | {"createdAt": "2025-12-31T00:00:00Z"})


def _other_current_version(answers: dict[str, Any]) -> None:
    _versions(answers).append(_version("v3", 1, SESSION))
    answers[f"namespaces/{DUCKDB}/datasets/shop.main.totals"]["currentVersion"] = "v3"


def _column_twice(answers: dict[str, Any]) -> None:
    answers[f"namespaces/{DUCKDB}/datasets/shop.main.totals"]["fields"].append({"name": "total", "type": None})


def _no_assertion(answers: dict[str, Any]) -> None:
    facets = answers[f"namespaces/{DUCKDB}/datasets/shop.main.totals"]["facets"]
    facets["dataQualityAssertions"]["assertions"] = [NEVER | {"name": "always", "success": True}]


def _column_edge_twice(answers: dict[str, Any]) -> None:
    answers[f"column-lineage {TOTALS_ID}"]["graph"] *= 2


def _one_more_edge(answers: dict[str, Any]) -> None:
    answers[f"lineage {NODE_ID}"]["graph"][0]["inEdges"].append(_edge("dataset:other:t", NODE_ID))


def _no_column_edge(answers: dict[str, Any]) -> None:
    answers[f"column-lineage {TOTALS_ID}"]["graph"][0]["data"]["inputFields"] = []


def _no_namespace(answers: dict[str, Any]) -> None:
    answers["namespaces"]["namespaces"].pop()


def _no_raw_event(answers: dict[str, Any]) -> None:
    answers["events/lineage"]["events"] = SENT[:-1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_state, f"run {NODE} of {JOB}, state: sent COMPLETED, kept RUNNING"),
        (_moved_start, "startedAt: sent 2026-01-01 00:00:01.500000+00:00, kept 2026-01-01 00:00:02.500000+00:00"),
        (_no_output, f"of its outputs was not kept: {DUCKDB} shop.main.totals"),
        (_no_parent, f"job {JOB}, parent: sent dbt-run-shop, kept None"),
        (_unlisted_run, f"job {JOB}, run was not kept: {NODE}"),
        (_no_column, "columns: sent [('total', 'HUGEINT')], kept []"),
        (_no_description, "description: sent Sums., kept None"),
        (_two_versions, f"run {NODE} has made 2 versions of it"),
        (_version_of_nobody, "1 of its versions were made by no run"),
        (_other_current_version, f"current version, by run: sent {NODE}, kept {SESSION}"),
        (_column_twice, "columns: sent [('total', 'HUGEINT')], kept [('total', 'HUGEINT'), ('total', None)]"),
        (_no_assertion, "assertion was not kept: never False"),
        (_column_edge_twice, "2 edges, of which 1 are distinct"),
        (_one_more_edge, "edge to one of its inputs was not sent: dataset:other:t"),
        (_no_column_edge, f"edge was not kept: total {DUCKDB} shop.main.orders amount"),
        (_no_namespace, f"namespace was not kept: {DUCKDB}"),
        (_no_raw_event, f"raw event was not kept: {SESSION} COMPLETE"),
    ],
)
def test_a_difference_is_told_once(differences: Any, answering: Answering, change: Any, said: str) -> None:
    change(answering.answers)
    (found,) = differences()
    assert said in found


def test_what_was_there_before_is_no_difference(differences: Any, answering: Answering) -> None:
    _older_version_of_nobody(answering.answers)
    assert differences() == []


def test_a_test_that_a_later_event_leaves_out_is_missed_all_the_same(check: ModuleType) -> None:
    """What is expected is taken from all events, so that `check` sees what a sender lets go."""
    passed = NEVER | {"name": "always", "success": True}
    later = _event(
        "COMPLETE", 5, TEST, inputs=[TOTALS | {"inputFacets": {"dataQualityAssertions": {"assertions": [passed]}}}]
    )
    told = check.Told([*SENT, later])
    assert told.assertions((DUCKDB, TOTALS["name"])) == {"never": False, "always": True}


def test_an_event_that_was_refused_is_a_difference(differences: Any, answering: Answering) -> None:
    answering.post_status = 422
    assert differences()[0] == "START of dbt-run-shop was answered with 422"


def _command(url: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"MARQUEZ_URL": url} | variables
    return subprocess.run(
        [sys.executable, str(CHECK), *arguments], capture_output=True, text=True, timeout=120, env=environ, check=False
    )


def test_exit_codes(answering: Answering, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text("\n".join(map(json.dumps, SENT)))
    same = _command(answering.url, str(file))
    assert (same.returncode, same.stdout.splitlines()[-1]) == (0, "No differences.")
    _state(answering.answers)
    other = _command(answering.url, str(file))
    assert (other.returncode, other.stdout.splitlines()[-1]) == (1, "1 difference.")
    nobody = _command("http://127.0.0.1:9")
    assert (nobody.returncode, nobody.stdout) == (2, "")
    assert "no Marquez at http://127.0.0.1:9" in nobody.stderr


def test_a_kept_run_passes_through_on_its_way(answering: Answering, tmp_path: Path) -> None:
    happened = [
        session_started(SESSION),
        events.AttemptStarted(argv=["build"], pid=1, python="p"),
        events.DbtConfigured(adapter_type="duckdb", adapter_version="1", project="shop"),
        events.SessionEnded(outcome="died", exit_code=2),
    ]
    directory = undelivered(tmp_path, SESSION, happened)
    answering.answers["events/lineage"] = {"events": [], "totalCount": 0}
    ended = _command(answering.url, str(directory.path), OPENLINEAGE_URL="http://127.0.0.1:9")
    assert [event["eventType"] for event in answering.posted] == ["START", "ABORT"]
    assert ended.returncode == 1
    assert "state: sent ABORTED, kept COMPLETED" in ended.stdout


@pytest.mark.slow
def test_the_example_is_built_in_a_namespace_of_its_own(answering: Answering) -> None:
    answering.answers = {"namespaces": {"namespaces": []}, "events/lineage": {"events": []}}
    ended = _command(answering.url)
    assert ended.returncode == 1, ended.stderr
    (namespace,) = {event["job"]["namespace"] for event in answering.posted}
    assert re.fullmatch(r"spanline-check-[0-9a-f]{8}", namespace)
    assert f"{len(answering.posted)} events went to {answering.url}" in ended.stdout
    assert ended.stdout.count("was not kept") > len(answering.posted)


# --- a real Marquez --------------------------------------------------------------------------------------------------


@pytest.mark.marquez
@pytest.mark.skipif("MARQUEZ_URL" not in os.environ, reason="needs MARQUEZ_URL, the address of a Marquez")
def test_marquez_has_what_was_sent() -> None:
    ended = _command(os.environ["MARQUEZ_URL"])
    assert ended.returncode == 0, ended.stdout + ended.stderr
