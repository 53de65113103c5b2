"""`examples/monitoring`: its rules, dashboard and configurations, on what real runs export to real servers.

The tests with the mark `monitoring` start a Prometheus and a collector, which are built once with Go, into a cache
outside the tree.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import yaml

from spanline import events
from spanline.events import Event
from spanline.home.home import RunDirectory, runs
from spanline.results import measures
from spanline.sinks.prometheus import prometheus_name
from spanline.supervisor.replay import replay
from tests.supervisor.test_retry import LOCKED, held_by_another
from tests.support.gotools import GO, cached, go
from tests.support.project import Project
from tests.support.receivers import serving
from tests.support.waiting import eventually

EXAMPLES = Path(__file__).parents[2] / "examples" / "monitoring"
VARIABLES = {
    "$project": ".*",
    "$target": ".*",
    "$command": ".*",
    "$__range_s": "3600",
    "$__range": "1h",
    "$__interval": "1h",
}
SUFFIXES = ("_bucket", "_sum", "_count")

PROMETHEUS = "v0.316.0"  # Prometheus 3.16, by its module's own numbers
COLLECTOR = "v0.165.0"
needs_go = pytest.mark.skipif(GO is None, reason="needs Go, to build a current Prometheus and a collector")
needs_promtool = pytest.mark.skipif(
    GO is None and shutil.which("promtool") is None, reason="needs promtool (Debian's prometheus), or Go to build it"
)


# --- what the files say -----------------------------------------------------------------------------------------------


def rules() -> list[dict[str, str]]:
    (group,) = yaml.safe_load((EXAMPLES / "dbt.rules.yml").read_text())["groups"]
    return group["rules"]  # type: ignore[no-any-return]


def dashboard_queries() -> list[tuple[str, str]]:
    """Title and expression of each of the dashboard's queries, its variables filled in."""
    dashboard = json.loads((EXAMPLES / "grafana-dashboard.json").read_text())
    found = []
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            expression = target["expr"]
            for name, value in VARIABLES.items():
                expression = expression.replace(name, value)
            found.append((panel["title"], expression))
    return found


def names_in(expressions: Iterable[str]) -> set[str]:
    return {name for expression in expressions for name in re.findall(r"\bdbt_[a-z_]+", expression)}


def named() -> set[str]:
    return names_in([*(rule["expr"] for rule in rules()), *(expression for _, expression in dashboard_queries())])


def test_every_name_in_rules_and_dashboard_is_a_metric_of_ours() -> None:
    ours = set()
    for instrument in measures.INSTRUMENTS:
        name = prometheus_name(instrument)
        ours |= {name + suffix for suffix in SUFFIXES} if instrument.kind == "histogram" else {name}
    assert named() <= ours
    assert len(named()) > 8


def test_the_dashboard_refers_to_nothing_that_it_does_not_define() -> None:
    text = (EXAMPLES / "grafana-dashboard.json").read_text()
    dashboard = json.loads(text)
    defined = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z_]+)", text)) - {"__range", "__range_s", "__interval", "__all"}
    assert used == defined
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for asked_for in ("Success rate", "P50, P95, P99", "Failing nodes", "Slowest nodes", "Retries", "Artifact size"):
        assert any(asked_for in panel["title"] for panel in dashboard["panels"]), asked_for


# --- real servers -----------------------------------------------------------------------------------------------------


def prometheus_tool(name: str) -> Path:
    def build(place: Path) -> None:
        package = f"github.com/prometheus/prometheus/cmd/{name}@{PROMETHEUS}"
        go(place, "install", "-tags", "remove_all_sd", package, GOBIN=str(place))

    return cached(f"prometheus-{PROMETHEUS}", name, build)


def promtool() -> Path:
    found = shutil.which("promtool")
    return Path(found) if found else prometheus_tool("promtool")


def collector() -> Path:
    def build(place: Path) -> None:
        core, contrib = "go.opentelemetry.io/collector", "github.com/open-telemetry/opentelemetry-collector-contrib"
        parts = {
            "receivers": [f"{core}/receiver/otlpreceiver"],
            "exporters": [f"{core}/exporter/otlphttpexporter"],
            "processors": [
                f"{core}/processor/memorylimiterprocessor",
                f"{contrib}/processor/deltatocumulativeprocessor",
            ],
        }
        manifest = {
            "dist": {"name": "otelcol", "output_path": str(place / "source"), "module": "spanline-tests"},
            **{kind: [{"gomod": f"{module} {COLLECTOR}"} for module in modules] for kind, modules in parts.items()},
        }
        (place / "builder.yaml").write_text(yaml.safe_dump(manifest))
        go(place, "run", f"{core}/cmd/builder@{COLLECTOR}", "--config=builder.yaml")
        (place / "source" / "otelcol").replace(place / "otelcol")

    return cached(f"collector-{COLLECTOR}", "otelcol", build)


@dataclass
class Prometheus:
    """One that runs."""

    url: str

    @property
    def environment(self) -> dict[str, str]:
        return {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{self.url}/api/v1/otlp/v1/metrics"}

    def get(self, path: str, **query: str) -> object:
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as response:
            return json.load(response)["data"]

    def names(self) -> set[str]:
        return {name for name in self.get("label/__name__/values") if name.startswith("dbt_")}  # type: ignore[attr-defined]

    def query(self, expression: str) -> dict[frozenset[tuple[str, str]], float]:
        """The values by their labels, but for those that say who was scraped."""
        found = self.get("query", query=expression)["result"]  # type: ignore[index]
        return {
            frozenset((k, v) for k, v in one["metric"].items() if k not in ("__name__", "job", "instance")): float(
                one["value"][1]
            )
            for one in found
        }

    def number(self, expression: str) -> float | None:
        return next(iter(self.query(expression).values()), None)


@contextmanager
def running(command: list[str], log: Path, url: str, **environment: str) -> Iterator[None]:
    """A server, from when it answers at `url` until the block ends."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **environment})

    def answers() -> bool:
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            with urllib.request.urlopen(url, timeout=5):
                return True
        except urllib.error.HTTPError as error:
            return error.code in (404, 405)
        except OSError:
            return False

    try:
        eventually(answers, url)
        yield
    finally:
        process.terminate()
        process.wait(30)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def prometheus(place: Path, scraped: str = "127.0.0.1:9", *options: str) -> Iterator[Prometheus]:
    """One with the example's configuration, which looks every second, and scrapes this address."""
    place.mkdir()
    configuration = yaml.safe_load((EXAMPLES / "prometheus.yml").read_text())
    configuration["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    configuration["rule_files"] = [str(EXAMPLES / name) for name in configuration["rule_files"]]
    configuration["scrape_configs"][0]["static_configs"] = [{"targets": [scraped]}]
    (place / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    port = free_port()
    command = [
        str(prometheus_tool("prometheus")),
        f"--config.file={place / 'prometheus.yml'}",
        f"--storage.tsdb.path={place / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-otlp-receiver",
        *options,
    ]
    url = f"http://127.0.0.1:{port}"
    with running(command, place / "log", f"{url}/-/ready"):
        yield Prometheus(url)


@dataclass
class Monitored:
    """A project after three runs, and two servers that know of them."""

    project: Project
    pushed: Prometheus
    scraped: Prometheus

    @property
    def directories(self) -> list[RunDirectory]:
        return runs(self.project.home)


@pytest.fixture(scope="module")
def monitored(copy_project: Callable[[], Project], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitored]:
    """A run that succeeds, one of which a model and a test fail, and one that fails after a retry; all are `build`."""
    project, place = copy_project(), tmp_path_factory.mktemp("servers")
    textfiles = place / "textfiles"
    textfiles.mkdir()
    file = textfiles / "dbt.shop.dev.build.prom"

    class Handler(BaseHTTPRequestHandler):  # as node-exporter: it serves what the files say now
        def do_GET(self) -> None:
            body = file.read_bytes() if file.exists() else b""
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ExitStack() as stack:
        address = stack.enter_context(serving(Handler)).removeprefix("http://")
        found = Monitored(
            project,
            stack.enter_context(prometheus(place / "pushed")),
            stack.enter_context(prometheus(place / "scraped", address)),
        )
        other = project.path / "other.duckdb"
        environment = {
            **found.pushed.environment,
            "SPANLINE_PROMETHEUS_TEXTFILE": str(textfiles),
            "OTHER": str(other),
            "SPANLINE_FLUSH_TIMEOUT": "20",
        }

        def build(*arguments: str, code: int) -> None:
            done = project.spanline(*arguments, **environment)
            assert done.returncode == code, done.stdout.decode() + done.stderr.decode()
            ended = end_of(runs(project.home)[-1]).time / 1e9
            newest = "max(last_over_time(dbt_last_run_timestamp_seconds[1h]))"
            eventually(lambda: found.scraped.number(newest) == pytest.approx(ended, abs=0.01), "a scrape of this run")

        build("dbt", "build", code=0)
        build("dbt", "build", "--vars", "{break: true, fail_test: true}", code=1)
        project.write("models/locked.sql", LOCKED)
        with held_by_another(other) as holder:
            build("--retry-limit", "2", "--retry-delay", "0.1", "dbt", "build", "-s", "locked", code=1)
            holder.kill()
        yield found


def end_of(directory: RunDirectory) -> Event:
    from spanline.journal.reader import Reader

    (ended,) = (r.event for r in Reader(directory.journal).read() if isinstance(r.event, events.SessionEnded))
    return ended


BASE = {"project": "shop", "target": "dev", "command": "build"}


def labels(**own: str) -> frozenset[tuple[str, str]]:
    return frozenset({**BASE, **own}.items())


@needs_promtool
@pytest.mark.monitoring
@pytest.mark.parametrize(
    "arguments",
    [("check", "rules", "dbt.rules.yml"), ("test", "rules", "dbt.rules.test.yml")],
    ids=["check", "test"],
)
def test_promtool_is_content_with_the_rules(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [promtool(), *arguments], cwd=EXAMPLES, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


@needs_go
@pytest.mark.monitoring
@pytest.mark.parametrize("how", ["pushed", "scraped"])
def test_every_name_is_one_that_real_runs_export(monitored: Monitored, how: str) -> None:
    server: Prometheus = getattr(monitored, how)
    assert not named() - server.names()
    for title, expression in dashboard_queries():
        found = server.query(expression)  # an expression that is wrong would be an error
        assert found or title == "Owed by sinks", (title, expression)


@needs_go
@pytest.mark.monitoring
def test_both_ways_give_the_same_series(monitored: Monitored) -> None:
    def series(server: Prometheus) -> dict[str, set[frozenset[tuple[str, str]]]]:
        newest = end_of(monitored.directories[-1]).time / 1e9
        return {
            name: set(server.query(f"last_over_time({name}[{max(5, round(time.time() - newest) + 2)}s])"))
            for name in server.names()
            if name.startswith("dbt_last_run") and "node" not in name
        }

    pushed, scraped = series(monitored.pushed), series(monitored.scraped)
    assert pushed.keys() == scraped.keys()
    for name, found in pushed.items():
        assert found <= scraped[name], name


@needs_go
@pytest.mark.monitoring
@pytest.mark.parametrize("how", ["pushed", "scraped"])
def test_the_rules_see_what_happened(monitored: Monitored, how: str) -> None:
    server: Prometheus = getattr(monitored, how)
    counted = {labels(outcome="success"): 1.0, labels(outcome="failed"): 2.0}
    eventually(lambda: server.query("dbt:runs:count7d") == counted, f"{counted}")
    eventually(
        lambda: (
            {
                alert["labels"]["alertname"]
                for alert in server.get("alerts")["alerts"]  # type: ignore[index]
            }
            == {"DbtRunsFail", "DbtRunsWereRetried"}
        ),
        "two alerts",
    )
    assert server.query("dbt:runs:failure_ratio7d") == {labels(): pytest.approx(2 / 3)}
    assert server.query('ALERTS{alertname="DbtRunsWereRetried"}') == {
        labels(alertname="DbtRunsWereRetried", alertstate="firing", severity="info", category="concurrency"): 1
    }
    health = server.get("rules")["groups"][0]["rules"]  # type: ignore[index]
    assert {rule["health"] for rule in health} == {"ok"}


@needs_go
@pytest.mark.monitoring
def test_a_replay_counts_nothing_twice(monitored: Monitored, monkeypatch: pytest.MonkeyPatch) -> None:
    server = monitored.pushed
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)

    def kept() -> dict[str, float | None]:
        return {name: server.number(f"sum(count_over_time({name}[1h]))") for name in server.names()}

    before, runs_before = kept(), server.query("dbt:runs:count7d")
    assert before["dbt_run_results_total"] == 3
    for directory in (*monitored.directories, *reversed(monitored.directories)):
        cursor = replay(directory, everything=True, timeout=20)["otel_metrics"]
        assert (cursor.delivered, cursor.rejected, cursor.error) == (2, 0, None)
    assert kept() == before
    assert server.query("dbt:runs:count7d") == runs_before


@needs_go
@pytest.mark.monitoring
@pytest.mark.parametrize("adder", ["prometheus", "collector"])
def test_deltas_add_up_to_real_counters_and_a_replay_adds_nothing(
    monitored: Monitored, adder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")
    with ExitStack() as stack:
        options = ["--enable-feature=otlp-deltatocumulative"] if adder == "prometheus" else []
        server = stack.enter_context(prometheus(tmp_path / "prometheus", "127.0.0.1:9", *options))
        endpoint = server.environment["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"]
        if adder == "collector":
            endpoint = stack.enter_context(collecting(tmp_path, server))
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", endpoint)

        def counted() -> dict[str, float]:
            found = server.query("sum by (outcome) (last_over_time(dbt_run_results_total[1h]))")
            return {dict(key)["outcome"]: value for key, value in found.items()}

        for directory in monitored.directories:
            assert replay(directory, everything=True, timeout=20)["otel_metrics"].delivered == 2
        eventually(lambda: counted() == {"success": 1, "failed": 2}, "three runs")
        for directory in monitored.directories:
            assert replay(directory, everything=True, timeout=20)["otel_metrics"].delivered == 2
        assert counted() == {"success": 1, "failed": 2}


@contextmanager
def collecting(place: Path, server: Prometheus) -> Iterator[str]:
    """A collector with the example's configuration, on free ports, and its endpoint for metrics."""
    http, grpc = free_port(), free_port()
    example = (EXAMPLES / "collector.yaml").read_text()
    ours = example.replace("0.0.0.0:4318", f"127.0.0.1:{http}").replace("0.0.0.0:4317", f"127.0.0.1:{grpc}")
    (place / "collector.yaml").write_text(ours)
    command = [str(collector()), f"--config={place / 'collector.yaml'}", "--set=service.telemetry.metrics.level=none"]
    url = f"http://127.0.0.1:{http}/v1/metrics"
    with running(command, place / "collector.log", url, PROMETHEUS_URL=server.url, JAEGER_URL="http://127.0.0.1:9"):
        yield url
