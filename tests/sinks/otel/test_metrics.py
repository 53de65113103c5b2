"""Metrics: what runs amount to, over OTLP and in a textfile, against dbt's results and values worked out by hand."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import msgspec
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.metrics.export import MetricsData
from opentelemetry.sdk.resources import Resource
from prometheus_client.parser import text_string_to_metric_families

from spanline import events
from spanline.dbt.project import project_name
from spanline.errors import UsageError
from spanline.events import Event, SinkDelivery
from spanline.home.home import RunDirectory
from spanline.journal.state import RunState
from spanline.results import measures
from spanline.results.measures import Distribution, Measures, Snapshot
from spanline.sinks.otel.export import resource
from spanline.sinks.otel.metrics import MetricsTranslator
from spanline.sinks.prometheus import TextfileSink, file_name, prometheus_name
from spanline.stats.kept import fits
from spanline.supervisor.replay import replay
from spanline.testing import tell
from tests.support.journals import journal, session_started, undelivered
from tests.support.project import DEADLINE, Project, last_run
from tests.support.receivers import Receiver, answer, serving

ROOT = Path(__file__).parents[3]
RUN_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
BASE = {"project": "shop", "target": "dev", "command": "build", "adapter": "duckdb"}
EPOCH = 1_700_000_000

Values = dict[str, dict[frozenset[tuple[str, str]], object]]


def labels(**own: str) -> frozenset[tuple[str, str]]:
    return frozenset({**BASE, **own}.items())


# --- a run that nobody has run, second by second --------------------------------------------------------------------


def at(second: float, event: Event, session: int = 1, attempt: int = 1) -> Event:
    time = EPOCH * 10**9 + round(second * 1e9)
    return msgspec.structs.replace(event, time=time, session=session, step=1, attempt=attempt)


def begun(session: int = 1, second: float = 0) -> list[Event]:
    configured = events.DbtConfigured(
        adapter_type="duckdb", adapter_version="1", project="shop", target="dev", threads=2
    )
    return [
        at(second, session_started(RUN_ID), session),
        at(second, events.AttemptStarted(argv=["build"], pid=1, python="p"), session),
        at(second + 1, configured, session),
    ]


def described(unique_id: str, *upstream: str) -> Event:
    kind, _, name = unique_id.split(".", 2)
    return at(
        1,
        events.NodeDescribed(
            unique_id=unique_id, resource_type=kind, name=name, package_name="shop", depends_on=list(upstream)
        ),
    )


def node(
    unique_id: str, start: float, end: float, status: str = "success", attempt: int = 1, **more: object
) -> list[Event]:
    finished = events.NodeFinished(
        unique_id=unique_id,
        status=status,
        execution_time=end - start,
        **more,  # type: ignore[arg-type]
    )
    return [
        at(start, events.NodeStarted(unique_id=unique_id, thread="t"), attempt=attempt),
        at(end, finished, attempt=attempt),
    ]


def over(second: float, outcome: str = "success", session: int = 1) -> Event:
    return at(second, events.SessionEnded(outcome=outcome, exit_code=0 if outcome == "success" else 1), session)


def in_order(*parts: Event | list[Event]) -> list[Event]:
    flat = [event for part in parts for event in (part if isinstance(part, list) else [part])]
    return sorted(flat, key=lambda event: event.time)


def snapshots(happened: Iterable[Event], **options: object) -> list[Snapshot]:
    state, measured = RunState(), Measures(**options)  # type: ignore[arg-type]
    found = []
    for event in happened:
        state.apply(event)
        found += measured(event, state)
    return found


def values(snapshot: Snapshot) -> Values:
    found: Values = {}
    for point in snapshot.points:
        found.setdefault(point.instrument.name, {})[frozenset(point.labels)] = point.value
    return found


def only(happened: Iterable[Event], **options: object) -> Values:
    (snapshot,) = snapshots(happened, **options)
    return values(snapshot)


def test_nodes_wait_from_the_end_of_what_they_need_to_their_start() -> None:
    """Two threads. `c` needs `a`, and under `build` the test on `a`: it is ready at 9. `d` needs nothing, so it is
    ready when the first node starts, at 2; the test on `a` is ready at 5, when `a` ends."""
    a, b, c, d, on_a = "model.shop.a", "model.shop.b", "model.shop.c", "model.shop.d", "test.shop.on_a"
    found = only(
        in_order(
            begun(),
            [described(a), described(b), described(c, a), described(d), described(on_a, a)],
            node(a, 2, 5),
            node(b, 2, 8),
            node(on_a, 6, 9, "pass"),
            node(c, 9.5, 10),
            node(d, 12, 13),
            over(20),
        )
    )
    waits = found["dbt.node.time_in_queue"]
    of_models, of_tests = waits[labels(resource_type="model")], waits[labels(resource_type="test")]
    assert isinstance(of_models, Distribution)
    assert isinstance(of_tests, Distribution)
    assert (of_models.count, of_models.total, of_models.most) == (4, 0 + 0 + 0.5 + 10, 10)
    assert (of_tests.count, of_tests.total) == (1, 1)


def test_a_model_waits_for_its_unit_test_and_that_for_what_the_model_reads() -> None:
    source, model, unit = "model.shop.source", "model.shop.m", "unit_test.shop.m.works"
    found = only(
        in_order(
            begun(),
            [described(source), described(model, source), described(unit, model)],
            node(source, 2, 4),
            node(unit, 7, 8, "pass"),
            node(model, 8.25, 9),
            over(10),
        )
    )
    waits = found["dbt.node.time_in_queue"]
    assert waits[labels(resource_type="unit_test")].total == 3  # type: ignore[attr-defined]
    assert waits[labels(resource_type="model")].total == 0.25  # type: ignore[attr-defined]


def test_the_critical_path_is_the_longest_chain_and_what_it_lost_is_beyond_the_median() -> None:
    """Chains: a-c takes 1 + 10, b-d takes 4 + 2 and its test 1. The median model of 1, 4, 10, 2 takes 3: of the path
    a-c only `c` took more, by 7."""
    a, b, c, d, on_d = "model.shop.a", "model.shop.b", "model.shop.c", "model.shop.d", "test.shop.on_d"
    found = only(
        in_order(
            begun(),
            [described(a), described(b), described(c, a), described(d, b), described(on_d, d)],
            node(a, 2, 3),
            node(b, 2, 6),
            node(c, 4, 14),
            node(d, 6, 8),
            node(on_d, 8, 9, "pass"),
            over(20),
        )
    )
    assert found["dbt.last_run.critical_path.duration"] == {labels(): 11}
    assert found["dbt.last_run.critical_path.time_lost"] == {
        labels(resource_type="model"): 7,
        labels(resource_type="test"): 0,
    }


def test_a_retried_node_counts_for_each_attempt_and_once_in_the_last_run() -> None:
    a, b = "model.shop.a", "model.shop.b"
    found = only(
        in_order(
            begun(),
            [described(a), described(b, a)],
            node(a, 2, 3, "error", message="boom"),
            at(3, events.NodeSkipped(unique_id=b, cause=a)),
            at(4, events.AttemptEnded(exit_code=1)),
            at(4, events.RetryScheduled(delay=1, reason="connection (network.reset)")),
            at(5, events.AttemptStarted(argv=["build"], pid=2, python="p"), attempt=2),
            node(a, 6, 8, attempt=2, rows_affected=40),
            node(b, 8, 9, attempt=2, rows_affected=-1),
            over(10),
        )
    )
    assert found["dbt.node.results"] == {
        labels(resource_type="model", status="error"): 1,
        labels(resource_type="model", status="skipped"): 1,
        labels(resource_type="model", status="success"): 2,
    }
    assert found["dbt.run.retries"] == {labels(category="connection"): 1}
    assert found["dbt.last_run.retries"] == {labels(category="connection"): 1}
    assert found["dbt.node.rows_affected"] == {labels(resource_type="model"): 40}
    counts = {key: count for key, count in found["dbt.last_run.nodes"].items() if count}
    assert counts == {labels(status="success"): 2}
    assert len(found["dbt.last_run.nodes"]) == len(measures.STATUSES), "zeros too: no count of an earlier run stays"
    assert found["dbt.run.results"] == {labels(outcome="success"): 1}
    assert found["dbt.last_run.timestamp"] == {labels(outcome="success"): EPOCH + 10}
    assert found["dbt.last_run.duration"] == {labels(outcome="success"): 10}
    assert found["dbt.last_run.outcome"] == {
        labels(outcome=outcome): int(outcome == "success")
        for outcome in ("success", "failed", "cancelled", "timed out", "died")
    }


@pytest.mark.parametrize(
    ("end", "outcome", "status", "counted"),
    [
        (events.RunnerDied(signal="SIGKILL"), "died", "interrupted", "died"),
        (events.CancelRequested(by="a person"), "cancelled", "cancelled", "cancelled"),
        (events.CancelRequested(by="time limit", reason="it took 5 s"), "cancelled", "cancelled", "timed out"),
    ],
    ids=["died", "cancelled", "timed out"],
)
def test_nodes_that_were_open_are_counted_with_the_time_they_had(
    end: Event, outcome: str, status: str, counted: str
) -> None:
    a = "model.shop.a"
    started = at(2, events.NodeStarted(unique_id=a, thread="t"))
    found = only([*begun(), described(a), started, at(5, end), over(5, outcome)])
    assert found["dbt.node.results"] == {labels(resource_type="model", status=status): 1}
    assert found["dbt.node.duration"][labels(resource_type="model", status=status)].total == 3  # type: ignore[attr-defined]
    assert found["dbt.run.results"] == {labels(outcome=counted): 1}
    assert set(found["dbt.run.duration"]) == set(found["dbt.last_run.timestamp"]) == {labels(outcome=counted)}
    assert {key for key, value in found["dbt.last_run.outcome"].items() if value} == {labels(outcome=counted)}


@pytest.mark.slow
def test_a_run_that_exceeds_its_time_limit_is_counted_as_timed_out(project: Project, tmp_path: Path) -> None:
    textfiles = tmp_path / "textfiles"
    textfiles.mkdir()
    environment = {"GATE": str(tmp_path / "never"), "SPANLINE_PROMETHEUS_TEXTFILE": str(textfiles)}
    done = project.spanline("--timeout", "4", "--grace", "1", "dbt", "run", "-s", "gate", **environment)
    assert done.returncode not in (0, None)
    (ended,) = [event for event in journal(last_run(project)) if isinstance(event, events.SessionEnded)]
    assert ended.outcome == "cancelled"
    (written,) = textfiles.glob("*.prom")  # a slow machine's dbt has not come to its target
    (counted,) = samples(written)["dbt_run_results_total"]
    assert dict(counted)["outcome"] == "timed out"


def test_a_bound_belongs_to_the_bucket_below_it() -> None:
    """https://opentelemetry.io/docs/specs/otel/metrics/data-model/#histogram: upper bounds are inclusive."""
    found = only([*begun(), over(60)])
    duration = found["dbt.run.duration"][labels(outcome="success")]
    assert isinstance(duration, Distribution)
    assert measures.RUN_DURATION.bounds[4] == 60
    assert duration.buckets == (0, 0, 0, 0, 1, *[0] * 10)


def test_nodes_are_named_if_they_failed_or_are_among_the_slowest() -> None:
    ids = [f"model.shop.m{number}" for number in range(30)]
    happened = in_order(
        begun(),
        [described(unique_id) for unique_id in ids],
        *[node(unique_id, 100, 101 + number) for number, unique_id in enumerate(ids) if number],
        node(ids[0], 100, 100.5, "error"),
        over(200),
    )

    def named(**options: bool) -> set[str]:
        return {dict(key)["unique_id"] for key in only(happened, **options)["dbt.last_run.node.duration"]}

    assert named() == {ids[0], *ids[10:]}
    assert named(every_node=True) == set(ids)


def test_a_run_that_never_got_as_far_as_a_project_counts_all_the_same() -> None:
    started = at(0, session_started(RUN_ID))
    found = only([started, over(2, "failed")])
    key = frozenset({"project": "shop", "command": "build", "outcome": "failed"}.items())  # of /p/shop
    assert found["dbt.run.results"] == {key: 1}


def test_a_run_that_could_not_read_its_project_is_one_of_the_same_job() -> None:
    """The folder is `shop`, the project `store`."""
    start = msgspec.structs.replace(session_started(RUN_ID, project="store"), steps=[["build", "--target", "prod"]])
    found = only([at(0, start), over(2, "failed")])
    job = {"project": "store", "target": "prod", "command": "build", "outcome": "failed"}
    assert found["dbt.run.results"] == {frozenset(job.items()): 1}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("name: shop\n", "shop"),
        ("# dbt\nvars: {name: other}\nmodels:\n  name: other\nversion: 2\n'name': \"shop\"\n", "shop"),
        ("name: shop\nprofile: [\n", "shop"),
        ("profile: [\nname: shop\n", None),
        ("a: &a name\n? *a\n: name\nname: shop\n", "shop"),
        ("name: '{{ env_var(\"NAME\") }}'\n", None),
        ("name: [shop]\n", None),
        ("- name\n- shop\n", None),
        ("version: 2\n", None),
        ("name: \x00\xff", None),
        ("", None),
        (None, None),
    ],
)
def test_a_projects_name_is_known_before_dbt_reads_it(tmp_path: Path, text: str | None, name: str | None) -> None:
    if text is not None:
        (tmp_path / "dbt_project.yml").write_text(text, encoding="latin-1")
    assert project_name(tmp_path) == name


def test_a_run_whose_profile_is_broken_is_in_the_file_of_its_job(project: Project, tmp_path: Path) -> None:
    textfiles = tmp_path / "textfiles"
    textfiles.mkdir()
    project.write(
        "dbt_project.yml", (project.path / "dbt_project.yml").read_text().replace("name: shop", "name: shops", 1)
    )
    project.write("profiles.yml", "shop: {outputs: [")
    done = project.spanline("dbt", "run", "--target", "dev", SPANLINE_PROMETHEUS_TEXTFILE=str(textfiles))
    assert done.returncode == 2
    (counted,) = samples(textfiles / "dbt.shops.dev.run.prom")["dbt_run_results_total"]
    assert dict(counted) == {"project": "shops", "target": "dev", "command": "run", "outcome": "failed"}


def test_a_run_of_several_steps_has_one_name_for_them_all() -> None:
    started = msgspec.structs.replace(session_started(RUN_ID), steps=[["deps"], ["seed", "-t", "dev"], ["build"]])
    found = only([at(0, started), *begun()[1:], over(9)])
    assert set(found["dbt.run.results"]) == {labels(command="deps seed build", outcome="success")}


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["build", "--select", "run"], "build"),
        (["--target", "test", "build"], "build"),
        (["--no-use-colors", "--profiles-dir", "p", "docs", "generate"], "docs generate"),
        (["source", "freshness"], "source freshness"),
    ],
)
def test_a_command_is_known_by_its_arguments(argv: list[str], command: str) -> None:
    started = msgspec.structs.replace(session_started(RUN_ID), steps=[argv])
    (found,) = only([at(0, started), *begun()[1:], over(9)])["dbt.run.results"]
    assert dict(found)["command"] == command


# --- times and temporality ------------------------------------------------------------------------------------------


def long_run() -> list[Event]:
    a, b = "model.shop.a", "model.shop.b"
    return in_order(
        begun(),
        [described(a), described(b)],
        node(a, 2, 10),
        *[at(second, events.Heartbeat()) for second in (30, 60, 90, 120)],
        node(b, 100, 110),
        over(150),
    )


def exported(happened: Iterable[Event]) -> list[MetricsData]:
    state, translate = RunState(), MetricsTranslator(Resource({}))
    found = []
    for event in happened:
        state.apply(event)
        found += [message.payload for message in translate(event, state)]
    return found  # type: ignore[return-value]


def results(data: MetricsData) -> list[tuple[float, float, float]]:
    """Start, time (in seconds of the run) and value of every point of `dbt.node.results`."""
    metrics = data.resource_metrics[0].scope_metrics[0].metrics
    return [
        (point.start_time_unix_nano / 1e9 - EPOCH, point.time_unix_nano / 1e9 - EPOCH, point.value)
        for metric in metrics
        if metric.name == "dbt.node.results"
        for point in metric.data.data_points
    ]


def test_a_long_run_exports_by_the_journals_own_time() -> None:
    assert [results(data) for data in exported(long_run())] == [[(0, 60, 1)], [(0, 120, 2)], [(0, 150, 2)]]


def test_the_interval_is_the_sdks_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "90000")
    assert [results(data) for data in exported(long_run())] == [[(0, 90, 1)], [(0, 150, 2)]]


@pytest.mark.parametrize("value", ["0", "-1", "nan", "soon"])
def test_an_interval_that_is_none_is_the_default(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", value)
    assert [results(data) for data in exported(long_run())] == [[(0, 60, 1)], [(0, 120, 2)], [(0, 150, 2)]]


@pytest.mark.parametrize("preference", ["delta", "LowMemory"])
def test_delta_counts_from_the_point_before(preference: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", preference)
    sent = exported(long_run())
    assert [results(data) for data in sent] == [[(0, 60, 1)], [(60, 120, 1)], []]
    temporalities = {
        metric.name: int(metric.data.aggregation_temporality)
        for metric in sent[-1].resource_metrics[0].scope_metrics[0].metrics
        if not metric.name.startswith("dbt.last_run")
    }
    assert temporalities == {"dbt.run.results": 1, "dbt.run.duration": 1}  # AGGREGATION_TEMPORALITY_DELTA


@pytest.mark.parametrize("preference", ["cumulative", "delta"])
def test_a_clock_that_was_set_back_makes_no_point_end_before_it_starts(
    preference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour back before 70 s have passed; the other clock says that the run ended after 90."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", preference)

    true = [*begun(), *node("model.shop.a", 2, 10), at(70, events.Heartbeat()), over(90)]
    happened = [
        msgspec.structs.replace(event, time=event.time - back * 10**9, mono=event.time)
        for event, back in zip(true, [0] * (len(true) - 2) + [3600, 3600], strict=True)
    ]
    first, last = (data.resource_metrics[0].scope_metrics[0].metrics for data in exported(happened))
    ends = {(p.time_unix_nano / 1e9 - EPOCH) for metrics in (first, last) for m in metrics for p in m.data.data_points}
    assert ends == {70, 90}
    starts = {p.start_time_unix_nano / 1e9 - EPOCH for m in last for p in m.data.data_points if p.start_time_unix_nano}
    assert starts == {0 if preference == "cumulative" else 70}


def test_a_resumed_session_counts_from_its_own_start() -> None:
    first, second = snapshots([*begun(), over(5, "failed"), *begun(2, 100), over(107, session=2)])
    assert (first.since, second.since) == (EPOCH * 10**9, (EPOCH + 100) * 10**9)
    assert values(second)["dbt.run.results"] == {labels(outcome="success"): 1}


# --- over OTLP ------------------------------------------------------------------------------------------------------


def requests(receiver: Receiver) -> list[ExportMetricsServiceRequest]:
    found = []
    for request in receiver.acknowledged("/v1/metrics"):
        message = ExportMetricsServiceRequest()
        message.ParseFromString(request.body)
        found.append(message)
    return found


def metrics_of(message: ExportMetricsServiceRequest) -> dict[str, object]:
    (resource,) = message.resource_metrics
    (scope,) = resource.scope_metrics
    return {metric.name: metric for metric in scope.metrics}


def numbers(metric: object) -> dict[frozenset[tuple[str, str]], float]:
    kind = metric.WhichOneof("data")  # type: ignore[attr-defined]
    found = {}
    for point in getattr(metric, kind).data_points:
        key = frozenset((pair.key, pair.value.string_value) for pair in point.attributes)
        found[key] = point.sum if kind == "histogram" else point.as_int or point.as_double
    return found


@pytest.fixture(scope="module")
def failing(
    copy_project: Callable[[], Project],
    start_receiver: Callable[[], Receiver],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Project, Receiver, Path]:
    """A build of which a model and a test fail, sent over OTLP and written as a textfile."""
    project, receiver, folder = copy_project(), start_receiver(), tmp_path_factory.mktemp("textfile")
    done = project.spanline(
        "dbt", "build", "--vars", "{break: true, fail_test: true}",
        **receiver.otel_environment, SPANLINE_PROMETHEUS_TEXTFILE=str(folder),
    )  # fmt: skip
    assert done.returncode == 1, done.stdout.decode()
    return project, receiver, folder


def test_a_run_is_exported_as_dbts_run_results_say(failing: tuple[Project, Receiver, Path]) -> None:
    project, receiver, _ = failing
    metrics = metrics_of(requests(receiver)[0])
    run = project.artifact("run_results.json")["results"]
    nodes = [one for one in run if not one["unique_id"].startswith("operation.")]  # type: ignore[index, union-attr]
    assert nodes

    counted: dict[frozenset[tuple[str, str]], float] = {}
    for one in nodes:
        key = labels(resource_type=one["unique_id"].split(".")[0], status=one["status"])
        counted[key] = counted.get(key, 0) + 1
    ephemeral = labels(resource_type="model", status="success")
    counted[ephemeral] += 1  # dbt leaves ephemeral models out of its results, and runs them
    assert numbers(metrics["dbt.node.results"]) == counted
    took = numbers(metrics["dbt.last_run.node.duration"])
    for one in nodes:
        if one["status"] in ("error", "fail"):
            key = labels(unique_id=one["unique_id"], resource_type=one["unique_id"].split(".")[0], status=one["status"])
            assert took[key] == pytest.approx(one["execution_time"], abs=1e-5)
    assert len(took) <= 20 + 2
    happened = journal(last_run(project))
    started, ended = happened[0], next(event for event in happened if isinstance(event, events.SessionEnded))
    seconds = (ended.time - started.time) / 1e9
    assert numbers(metrics["dbt.last_run.duration"]) == {labels(outcome="failed"): pytest.approx(seconds)}
    assert numbers(metrics["dbt.run.duration"]) == {labels(outcome="failed"): pytest.approx(seconds)}
    for metric in metrics.values():
        kind = metric.WhichOneof("data")  # type: ignore[attr-defined]
        for point in getattr(metric, kind).data_points:
            assert point.time_unix_nano == ended.time
            assert point.start_time_unix_nano == (0 if kind == "gauge" else started.time)
    kept = {file.stem: file.stat().st_size for file in last_run(project).directory.artifacts(1, 1, 1).iterdir()}
    sizes = numbers(metrics["dbt.last_run.artifact.size"])
    assert sizes == {labels(artifact=name): size for name, size in kept.items()}
    assert set(kept) >= {"manifest", "run_results"}


def test_a_run_continues_the_series_of_the_one_before(failing: tuple[Project, Receiver, Path]) -> None:
    """No identity of a process or run is in the resource or the labels."""
    _, receiver, _ = failing
    message, _ = requests(receiver)
    of_resource = {pair.key for pair in message.resource_metrics[0].resource.attributes}
    assert of_resource == {"service.name", "telemetry.sdk.language", "telemetry.sdk.name", "telemetry.sdk.version"}
    known = {*BASE, "resource_type", "status", "outcome", "category", "artifact", "unique_id"}
    for name, metric in metrics_of(message).items():
        keys = {key for point in numbers(metric) for key, _ in point}
        assert keys <= known
        assert ("unique_id" in keys) == (name == "dbt.last_run.node.duration")


@pytest.mark.slow
def test_how_far_the_sinks_have_come_is_exported_behind_the_run_and_again_after_a_replay(
    project: Project, receiver: Receiver, start_receiver: Callable[[], Receiver]
) -> None:
    dead = start_receiver()
    dead.status = 503
    environment = {**dead.lineage_environment, **receiver.otel_environment, "SPANLINE_FLUSH_TIMEOUT": "1"}
    done = project.spanline("dbt", "seed", **environment)
    assert done.returncode == 0, done.stderr.decode()
    owed = json.loads(project.spanline("show", "latest", "--json").stdout)["undelivered"]
    assert list(owed) == ["openlineage"]

    def told(sink: str, message: ExportMetricsServiceRequest) -> tuple[float, float]:
        metrics, key = metrics_of(message), frozenset({**BASE, "command": "seed", "sink": sink}.items())
        return numbers(metrics["dbt.sink.undelivered"])[key], numbers(metrics["dbt.sink.lag"])[key]

    *_, last = requests(receiver)
    messages, lag = told("openlineage", last)
    assert messages == owed["openlineage"]
    happened = journal(last_run(project))
    configured, ended = (
        next(event.time for event in happened if isinstance(event, kind))
        for kind in (events.DbtConfigured, events.SessionEnded)
    )
    assert lag >= (ended - configured) / 1e9, "a session's START waits for what dbt says of its project"
    for sink in ("otel_traces", "otel_metrics", "otel_logs"):
        assert told(sink, last) == (0, 0)

    dead.status = 200
    project.spanline("replay", "latest", **environment)
    *_, last = requests(receiver)
    assert told("openlineage", last) == (0, 0)
    assert isinstance(journal(last_run(project))[-1], events.DeliveryEnded)


@pytest.mark.slow
def test_of_a_backend_of_metrics_that_stays_down_is_told_once(project: Project, receiver: Receiver) -> None:
    receiver.status = 503
    environment = {**receiver.otel_environment, "SPANLINE_FLUSH_TIMEOUT": "1"}
    done = project.spanline("dbt", "seed", **environment)
    assert done.returncode == 0, done.stderr.decode()
    for _ in range(2):
        project.spanline("replay", "latest", "--timeout", "1", **environment)
    run = last_run(project)
    (told,) = [event for event in journal(run) if isinstance(event, events.DeliveryEnded)]
    assert next(sink for sink in told.sinks if sink.sink == "otel_metrics").undelivered == 1
    receiver.status = 200
    project.spanline("replay", "latest", **environment)
    *_, told = [event for event in journal(run) if isinstance(event, events.DeliveryEnded)]
    assert {sink.undelivered for sink in told.sinks} == {0}
    facts = run.directory.facts.read_bytes()
    assert fits(facts, run.id, run.directory.journal.stat().st_size), "or statistics read the journal again"


def test_what_a_replay_says_nothing_of_is_as_was_told_before() -> None:
    state, measures_ = RunState(), Measures()
    snapshots: list[Snapshot] = []
    first = events.DeliveryEnded(sinks=[SinkDelivery("openlineage", 12, 3.5), SinkDelivery("otel_metrics", 1, 3.5)])
    of_metrics = events.DeliveryEnded(sinks=[SinkDelivery("otel_metrics")])
    for event in (*begun(), over(5), first, of_metrics):
        state.apply(event)
        snapshots += measures_(event, state)
    found = {(p.instrument.name, dict(p.labels)["sink"]): p.value for p in snapshots[-1].points}
    assert found == {
        ("dbt.sink.lag", "openlineage"): 3.5,
        ("dbt.sink.lag", "otel_metrics"): 0,
        ("dbt.sink.undelivered", "openlineage"): 12,
        ("dbt.sink.undelivered", "otel_metrics"): 0,
    }


def test_an_identity_that_was_asked_for_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=worker-1,service.namespace=shop")
    attributes = resource().attributes
    assert attributes["service.instance.id"] == "worker-1"
    assert (attributes["service.namespace"], attributes["service.name"]) == ("shop", "dbt")


def test_a_replay_sends_the_same_bytes(failing: tuple[Project, Receiver, Path]) -> None:
    project, receiver, _ = failing
    before = [request.body for request in receiver.acknowledged("/v1/metrics")]
    done = project.spanline("replay", "latest", "--all", **receiver.otel_environment)
    assert done.returncode == 0, done.stderr.decode()
    assert [request.body for request in receiver.acknowledged("/v1/metrics")] == before * 2


def test_every_metric_is_documented() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    rows = dict(re.findall(r"^\| `(dbt\.[\w.]+)` \| (`[^|]+) \|", text, re.M))
    assert set(rows) == {instrument.name for instrument in measures.INSTRUMENTS}
    for instrument in measures.INSTRUMENTS:
        assert f"`{instrument.unit}`" in rows[instrument.name]
        assert f"`{prometheus_name(instrument)}`" in rows[instrument.name]


# --- backends that take none ----------------------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path: Path) -> RunDirectory:
    """A run of which nothing has been delivered."""
    return undelivered(tmp_path, RUN_ID, [*begun(), over(5)])


@pytest.fixture
def without_metrics() -> Iterator[tuple[str, list[str]]]:
    """A backend that takes traces only, as Jaeger does, and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            asked.append(self.path)
            answer(self, 200 if self.path == "/v1/traces" else 404)

    with serving(Handler) as url:
        yield url, asked


def test_a_backend_that_takes_no_metrics_is_asked_once_for_each_message_and_says_how_to_turn_them_off(
    kept: RunDirectory, without_metrics: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, asked = without_metrics
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    cursors = replay(kept, everything=False, timeout=20)
    metrics, traces = cursors["otel_metrics"], cursors["otel_traces"]
    assert (metrics.delivered, metrics.rejected, metrics.undelivered) == (0, 2, 0), "of the run, and of its sinks"
    assert metrics.rejection == (
        "Rejected: the backend takes no metrics (404); turn them off with OTEL_METRICS_EXPORTER=none"
    )
    assert asked.count("/v1/metrics") == 2
    assert (traces.rejected, traces.undelivered, traces.error) == (0, 0, None)


@pytest.mark.parametrize(("status", "rejected"), [(400, 2), (401, 0), (503, 0)])
def test_only_what_stays_refused_is_given_up(
    kept: RunDirectory, receiver: Receiver, status: int, rejected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.status = status
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", f"{receiver.url}/v1/metrics")
    cursor = replay(kept, everything=False, timeout=2)["otel_metrics"]
    assert (cursor.rejected, cursor.undelivered) == (rejected, 0 if rejected else 1)


def test_an_exporter_that_waits_to_be_scraped_is_refused(
    kept: RunDirectory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus")
    with pytest.raises(UsageError, match="otel_metrics: LookupError: no OpenTelemetry exporter 'prometheus'"):
        replay(kept, everything=False, timeout=2)
    assert "otel_metrics is off: LookupError" in caplog.text


# --- the textfile ---------------------------------------------------------------------------------------------------

Samples = dict[str, dict[frozenset[tuple[str, str]], float]]


def samples(file: Path) -> Samples:
    found: Samples = {}
    for family in text_string_to_metric_families(file.read_text()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


def test_the_textfile_has_the_series_that_otlp_has(failing: tuple[Project, Receiver, Path]) -> None:
    project, receiver, folder = failing
    assert sorted(file.name for file in folder.iterdir()) == ["dbt.shop.dev.build.lock", "dbt.shop.dev.build.prom"]
    written = samples(folder / "dbt.shop.dev.build.prom")
    by_name = {instrument.name: prometheus_name(instrument) for instrument in measures.INSTRUMENTS}
    for name, metric in metrics_of(requests(receiver)[0]).items():
        ours = written.get(by_name[name]) or written[f"{by_name[name]}_sum"]
        assert ours == {key: pytest.approx(value) for key, value in numbers(metric).items()}
    ended = next(event.time for event in journal(last_run(project)) if isinstance(event, events.SessionEnded)) / 1e9
    assert written["dbt_last_run_timestamp_seconds"] == {labels(outcome="failed"): ended}
    buckets = {dict(key)["le"]: value for key, value in written["dbt_run_duration_seconds_bucket"].items()}
    assert (buckets["1.0"], buckets["+Inf"]) == (0, 1)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "textfile"
    place.mkdir()
    monkeypatch.setenv("SPANLINE_PROMETHEUS_TEXTFILE", str(place))
    return place


@pytest.fixture
def write(tmp_path: Path, folder: Path) -> Callable[..., Samples]:
    """Deliver a run that ended at this second with this outcome; return what the file then says."""

    def deliver(second: float, outcome: str, *nodes: list[Event]) -> Samples:
        run_id = f"01890a5d-ac96-774b-bcce-{round(second):012}"
        directory = RunDirectory(tmp_path / "home" / "runs" / run_id)
        if not directory.path.exists():
            (directory.path / "cursors").mkdir(parents=True)
            with directory.journal.open("wb") as file:
                for event in in_order(begun(), *nodes, over(second, outcome)):
                    file.write(msgspec.json.encode(event) + b"\n")
        cursor = replay(directory, everything=True, timeout=20)["prometheus_textfile"]
        assert cursor.complete, cursor.error
        return samples(folder / "dbt.shop.dev.build.prom")

    return deliver


def test_other_outcomes_stay_when_a_run_is_written(write: Callable[..., Samples]) -> None:
    write(10, "failed", node("model.shop.a", 2, 3, "error"))
    found = write(20, "success")
    assert found["dbt_last_run_timestamp_seconds"] == {
        labels(outcome="failed"): EPOCH + 10,
        labels(outcome="success"): EPOCH + 20,
    }
    assert found["dbt_last_run_duration_seconds"] == {labels(outcome="failed"): 10, labels(outcome="success"): 20}
    assert {dict(key)["outcome"] for key, value in found["dbt_last_run_outcome"].items() if value} == {"success"}
    assert found["dbt_last_run_nodes"][labels(status="error")] == 0
    assert "dbt_last_run_node_duration_seconds" not in found


def test_a_replay_changes_nothing_that_a_newer_run_wrote(write: Callable[..., Samples]) -> None:
    write(10, "failed", node("model.shop.a", 2, 3, "error"))
    write(15, "success")
    newest = write(20, "success")
    assert write(10, "failed") == newest
    assert write(15, "success") == newest


def test_an_older_run_that_is_late_adds_its_outcome_only(write: Callable[..., Samples]) -> None:
    before = write(20, "success")
    found = write(10, "failed", node("model.shop.a", 2, 3, "error"))
    assert found["dbt_last_run_timestamp_seconds"] == {
        labels(outcome="failed"): EPOCH + 10,
        labels(outcome="success"): EPOCH + 20,
    }
    for name in ("dbt_last_run_outcome", "dbt_last_run_nodes", "dbt_sink_undelivered"):
        assert found[name] == before[name]


def test_a_file_that_is_none_of_ours_is_written_anew(write: Callable[..., Samples], folder: Path) -> None:
    (folder / "dbt.shop.dev.build.prom").write_text("half a li{ne")
    assert write(20, "success")["dbt_run_results_total"] == {labels(outcome="success"): 1}


@pytest.mark.slow
def test_what_sinks_owe_is_in_the_file_until_a_replay_has_sent_it(
    project: Project, receiver: Receiver, folder: Path
) -> None:
    receiver.status = 503
    environment = {**receiver.lineage_environment, "SPANLINE_FLUSH_TIMEOUT": "1"}
    done = project.spanline("dbt", "seed", **environment, SPANLINE_PROMETHEUS_TEXTFILE=str(folder))
    assert done.returncode == 0, done.stderr.decode()
    before = samples(folder / "dbt.shop.dev.seed.prom")
    sink = frozenset({**BASE, "command": "seed", "sink": "openlineage"}.items())
    assert before["dbt_sink_undelivered"][sink] > 0
    assert before["dbt_sink_lag_seconds"][sink] > 0

    receiver.status = 200
    project.spanline("replay", "latest", **environment, SPANLINE_PROMETHEUS_TEXTFILE=str(folder))
    after = samples(folder / "dbt.shop.dev.seed.prom")
    assert (after["dbt_sink_undelivered"][sink], after["dbt_sink_lag_seconds"][sink]) == (0, 0)
    assert after["dbt_last_run_timestamp_seconds"] == before["dbt_last_run_timestamp_seconds"]


def test_runs_that_end_at_the_same_moment_lose_nothing_of_each_other(folder: Path) -> None:
    def delivered(second: int) -> None:
        tell(TextfileSink(folder), (*begun(), over(second, "failed" if second % 2 else "success")))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(delivered, range(10, 50)))
    found = samples(folder / "dbt.shop.dev.build.prom")
    assert found["dbt_last_run_timestamp_seconds"] == {
        labels(outcome="success"): EPOCH + 48,
        labels(outcome="failed"): EPOCH + 49,
    }
    assert found["dbt_last_run_outcome"][labels(outcome="failed")] == 1
    assert len(list(folder.iterdir())) == 2, "the file and its lock, nothing half written"


def test_no_two_projects_targets_and_commands_share_a_file() -> None:
    runs = [("a.b", "c", "run"), ("a", "b.c", "run"), ("a/b", "c", "run"), ("a", "b", "deps run"), ("a", "b", "")]
    names = [file_name(tuple(zip(("project", "target", "command"), parts, strict=True))) for parts in runs]
    assert names[0] == "dbt.a%2Eb.c.run.prom"
    assert names[3] == "dbt.a.b.deps%20run.prom"
    assert len(set(names)) == len(names)
    assert not any("/" in name for name in names)


def test_a_directory_that_is_not_there_is_named(kept: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = kept.path / "missing"
    monkeypatch.setenv("SPANLINE_PROMETHEUS_TEXTFILE", str(missing))
    cursor = replay(kept, everything=False, timeout=DEADLINE)["prometheus_textfile"]
    assert (cursor.rejected, cursor.undelivered) == (2, 0), "nobody makes it while the run waits"
    assert cursor.rejection == (
        f"Rejected: {missing} is not a directory: create it, or set another in SPANLINE_PROMETHEUS_TEXTFILE; "
        "`spanline replay RUN --all` writes this run's figures then"
    )
    missing.mkdir()
    assert replay(kept, everything=True, timeout=DEADLINE)["prometheus_textfile"].delivered == 2
    assert samples(missing / "dbt.shop.dev.build.prom")["dbt_run_results_total"] == {labels(outcome="success"): 1}


def test_without_the_client_library_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['prometheus_client'] = None; import spanline.sinks.prometheus"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'spanline[prometheus]'" in done.stderr.splitlines()[-1]


def test_a_run_without_metrics_imports_none_of_their_libraries(project: Project) -> None:
    code = (
        "import sys, json, spanline.supervisor.session\n"
        "from spanline.sinks.base import announced\n"
        "assert [point.load()() for point in announced()] == [None] * 5\n"
        "print(json.dumps([name for name in ('opentelemetry.sdk', 'prometheus_client') if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=project.path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
