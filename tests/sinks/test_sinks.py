"""Delivery: in order, once acknowledged not again, and nothing that a backend or a sink does reaches the run."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openlineage.client.serde import Serde

from spanline import events
from spanline.api.run import Run
from spanline.events import Event
from spanline.home.cursor import Cursor
from spanline.home.home import RunDirectory
from spanline.journal.reader import Reader
from spanline.journal.state import RunState
from spanline.sinks.openlineage import Translator
from spanline.supervisor.replay import replay
from tests.support.examples import examples
from tests.support.journals import journal, session_started
from tests.support.project import Project, last_run
from tests.support.receivers import Receiver, answer, serving
from tests.support.waiting import eventually

ONE_MODEL = ("dbt", "run", "--select", "customers")
MESSAGES_OF_ONE_MODEL = 8  # START and COMPLETE of the session, of the model, and of the two hooks


def kinds_by_run(received: Iterable[dict]) -> dict[str, list[str]]:
    found = defaultdict(list)
    for event in received:
        found[event["run"]["runId"]].append(event["eventType"])
    return found


def assert_one_start_and_one_end(received: list[dict]) -> None:
    """https://openlineage.io/docs/spec/run-cycle; the session's events come first and last."""
    for kinds in kinds_by_run(received).values():
        assert len(kinds) == 2
        assert kinds[0] == "START"
        assert kinds[1] in ("COMPLETE", "FAIL", "ABORT")
    assert received[0]["run"]["runId"] == received[-1]["run"]["runId"]


@dataclass
class Delivered:
    run: Run
    receiver: Receiver
    events: list[Event]


@pytest.fixture(scope="module")
def build(copy_project: Callable[[], Project], start_receiver: Callable[[], Receiver]) -> Delivered:
    """A build in which things fail, told to a receiver that takes 50 ms for each answer."""
    project, receiver = copy_project(), start_receiver()
    receiver.delay = 0.05
    done = project.spanline(
        "dbt",
        "build",
        "--vars",
        "{break: true, fail_test: true}",
        **receiver.lineage_environment,
        **receiver.otel_environment,
        SPANLINE_FLUSH_TIMEOUT="20",
    )
    assert done.returncode == 1, done.stderr.decode()
    run = last_run(project)
    return Delivered(run, receiver, journal(run))


# --- lineage


def test_a_slow_receiver_gets_everything_in_order(build: Delivered) -> None:
    assert_one_start_and_one_end(build.receiver.lineage)
    assert build.run.result().undelivered == {}


def test_events_arrive_while_dbt_runs(build: Delivered) -> None:
    (end,) = [event for event in build.events if isinstance(event, events.DbtFinished)]
    early = [r for r in build.receiver.acknowledged("/api/v1/lineage") if r.at < end.time / 1e9]
    assert len(early) > len(build.receiver.lineage) / 2


def test_datasets_are_the_relations_that_dbt_names(build: Delivered) -> None:
    described = {e.unique_id: e for e in build.events if isinstance(e, events.NodeDescribed)}
    relations = {e.relation.name.replace('"', "") for e in described.values() if e.relation}
    used = {d["name"] for e in build.receiver.lineage for d in (*e["inputs"], *e["outputs"])}
    assert {"shop.main.raw_events", "shop.main.totals", "shop.main.customers_history"} <= used <= relations
    assert {d["namespace"] for e in build.receiver.lineage for d in (*e["inputs"], *e["outputs"])} == {
        "duckdb://shop.duckdb"
    }


def test_skipped_nodes_have_no_run(build: Delivered) -> None:
    jobs = {event["job"]["name"] for event in build.receiver.lineage}
    assert any(".fragile." in job for job in jobs)
    assert not [job for job in jobs if ".below." in job or ".bottom." in job]


def test_sql_is_told_at_the_end_and_only_there(build: Delivered) -> None:
    told = Counter((e["eventType"], "sql" in e["job"]["facets"]) for e in build.receiver.lineage)
    assert told["START", True] == 0
    assert told["COMPLETE", True] > 5


def test_a_node_that_ends_by_a_cut_of_its_run_is_aborted() -> None:
    ended = [message["eventType"] for message in lineage_of(cut_short(CUT))]
    assert ended == ["START", "START", "ABORT", "ABORT"]


CUT: list[Event] = [
    session_started("01890a5d-ac96-774b-bcce-b302099a8057", session=1),
    events.AttemptStarted(argv=["build"], pid=1, python="p", session=1, step=1, attempt=1),
    events.DbtConfigured(adapter_type="duckdb", adapter_version="1", project="shop", session=1, step=1, attempt=1),
    events.NodeDescribed(unique_id="model.shop.a", resource_type="model", name="a", package_name="shop"),
    events.NodeStarted(unique_id="model.shop.a", thread="t", session=1, step=1, attempt=1),
]


def cut_short(happened: list[Event]) -> list[Event]:
    """What the journal holds once somebody has closed what a dead supervisor has left."""
    died = events.RunnerDied(signal="SIGKILL", session=1, step=1, attempt=1)
    return [*happened, died, events.SessionEnded(outcome="died", exit_code=2, session=1)]


def lineage_of(happened: list[Event]) -> list[dict]:
    translator, state, found = Translator(), RunState(), []
    for event in happened:
        state.apply(event)
        found += [json.loads(Serde.to_json(message.payload)) for message in translator(event, state)]
    return found


@given(data=st.data())
@examples(40)
def test_wherever_a_run_is_cut_every_run_that_began_ends_once(build: Delivered, data: st.DataObject) -> None:
    last = next(i for i, e in enumerate(build.events) if isinstance(e, events.DbtFinished))
    cut = data.draw(st.integers(3, last))
    told = lineage_of(cut_short(build.events[:cut]))
    assert_one_start_and_one_end(told)
    assert told == lineage_of(cut_short(build.events[:cut])), "made again it is the same"


def test_what_was_sent_is_what_the_journal_means(build: Delivered) -> None:
    """So that a replay sends the same, whoever makes it."""
    sent = build.receiver.lineage
    for event in sent:
        tags = event["run"]["facets"]["tags"]["tags"]
        tags[:] = [tag for tag in tags if tag["source"] != "OPENLINEAGE_CLIENT"]  # which adds its version
        if not tags:
            del event["run"]["facets"]["tags"]
    assert sorted(map(json.dumps, sent)) == sorted(map(json.dumps, lineage_of(build.events)))


@pytest.mark.slow
def test_a_microbatch_model_is_one_run(project: Project, receiver: Receiver) -> None:
    period = ("--event-time-start", "2020-01-01", "--event-time-end", "2020-01-04")
    done = project.spanline(
        "dbt", "run", "-s", "daily", "--vars", "{microbatch: true}", *period, **receiver.lineage_environment
    )
    assert done.returncode == 0, done.stdout.decode()
    assert_one_start_and_one_end(receiver.lineage)
    assert len(receiver.lineage) == MESSAGES_OF_ONE_MODEL


@pytest.mark.slow
def test_several_steps_are_one_session(project: Project, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENLINEAGE_URL", receiver.url)
    run = project.start(["seed", "-s", "raw_customers"], ["run", "-s", "customers"])
    assert run.wait(60).success
    left = [name for name in os.environ if name.startswith("OPENLINEAGE")]
    assert left == ["OPENLINEAGE_URL"], "the client's own variables would outlive a change of this one"
    assert_one_start_and_one_end(receiver.lineage)
    jobs = Counter(event["job"]["name"] for event in receiver.lineage)
    hooks = {f"operation.shop.shop-on-run-{when}-0": 4 for when in ("start", "end")}
    nodes = {"shop.main.shop.raw_customers.seed": 2, "shop.main.shop.customers": 2}
    assert jobs == {"dbt-run-shop": 2, **nodes, **hooks}


# --- traces


def test_spans_are_one_tree_in_one_trace(build: Delivered) -> None:
    spans = build.receiver.spans
    assert len({span.trace_id for span in spans}) == 1
    known = {span.span_id: span for span in spans}
    assert len(known) == len(spans)
    roots = [span for span in spans if not span.parent_span_id]
    assert [span.name for span in roots] == ["dbt build shop"]
    assert all(span.parent_span_id in known for span in spans if span.parent_span_id)


def attributes(span: object) -> dict[str, object]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}  # type: ignore[attr-defined]


def test_a_nodes_span_has_the_times_and_the_outcome_of_its_events(build: Delivered) -> None:
    begun = {e.unique_id: e.time for e in build.events if isinstance(e, events.NodeStarted)}
    ended = {e.unique_id: e for e in build.events if isinstance(e, events.NodeFinished)}
    spans = {attributes(s).get("unique_id"): s for s in build.receiver.spans if "node_type" in attributes(s)}
    assert set(begun) <= set(spans)
    spans = {unique_id: spans[unique_id] for unique_id in begun}
    for unique_id, span in spans.items():
        assert (span.start_time_unix_nano, span.end_time_unix_nano) == (begun[unique_id], ended[unique_id].time)
        assert attributes(span)["node_outcome"] == ended[unique_id].status
        failed = ended[unique_id].status in ("error", "fail")
        assert span.status.code == (span.status.STATUS_CODE_ERROR if failed else span.status.STATUS_CODE_UNSET)


def test_a_nodes_queries_are_spans_beneath_it(build: Delivered) -> None:
    spans = build.receiver.spans
    (totals,) = [s for s in spans if attributes(s).get("unique_id") == "model.shop.totals" and s.name == "model totals"]
    texts = [attributes(s)["db.query.text"] for s in spans if s.parent_span_id == totals.span_id]
    asked = [e.sql for e in build.events if isinstance(e, events.QueryStarted) and e.unique_id == "model.shop.totals"]
    assert sorted(map(str, texts)) == sorted(asked)
    assert asked


def test_both_backends_get_the_parents_that_the_caller_names(
    project: Project, start_receiver: Callable[[], Receiver]
) -> None:
    receiver = start_receiver()
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    done = project.spanline(
        *ONE_MODEL,
        **receiver.lineage_environment,
        **receiver.otel_environment,
        TRACEPARENT=f"00-{trace}-{parent}-01",
        OPENLINEAGE_PARENT_ID="my/space/my.job/01890a5d-ac96-774b-bcce-b302099a8057",
    )
    assert done.returncode == 0
    assert {span.trace_id.hex() for span in receiver.spans} == {trace}
    (top,) = [span for span in receiver.spans if span.name == "dbt run shop"]
    assert top.parent_span_id.hex() == parent
    session = [e for e in receiver.lineage if e["job"]["name"] == "dbt-run-shop"]
    for event in session:
        facet = event["run"]["facets"]["parent"]
        assert facet["run"]["runId"] == "01890a5d-ac96-774b-bcce-b302099a8057"
        assert (facet["job"]["namespace"], facet["job"]["name"]) == ("my/space", "my.job")
    assert len(session) == 2


# --- backends in trouble


@pytest.fixture
def kept(build: Delivered, tmp_path: Path) -> RunDirectory:
    """A copy of the build's run directory, as if nothing of it had been delivered yet."""
    directory = RunDirectory(tmp_path / "home" / "runs" / build.run.id)
    shutil.copytree(build.run.directory.path, directory.path)
    for cursor in directory.cursors():
        cursor.unlink()
    return directory


Replay = Callable[..., Cursor]


@pytest.fixture
def replay_to(kept: RunDirectory, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Replay:
    """Deliver what is owed of the kept run to the receiver, over OpenLineage or OTLP."""

    def replay_kept(sink: str, timeout: float = 20, *, everything: bool = False) -> Cursor:
        with monkeypatch.context() as patch:
            environment = receiver.lineage_environment if sink == "openlineage" else receiver.otel_environment
            for name, value in environment.items():
                patch.setenv(name, value)
            return replay(kept, everything=everything, timeout=timeout)[sink]

    return replay_kept


def test_an_outage_midway_is_made_good_by_a_replay_of_the_rest(
    build: Delivered, replay_to: Replay, receiver: Receiver
) -> None:
    total = len(lineage_of(build.events))
    receiver.status = lambda number: 200 if number <= 7 else 503
    cursor = replay_to("openlineage", 0.5)
    first = {request.body for request in receiver.acknowledged("/api/v1/lineage")}
    assert len(first) == 7
    assert (cursor.delivered, cursor.undelivered, cursor.complete) == (7, total - 7, False)

    receiver.status = 200
    receiver.requests.clear()
    cursor = replay_to("openlineage")
    assert (cursor.undelivered, cursor.complete) == (0, True)
    second = [request.body for request in receiver.acknowledged("/api/v1/lineage")]
    assert len(set(second)) == len(second)
    # At least once: what was acknowledged behind the first gap may come again, byte for byte the same.
    assert len(first | set(second)) == total

    receiver.requests.clear()
    replay_to("openlineage")
    assert receiver.requests == [], "nothing is owed any more"


def test_spans_that_were_not_delivered_are_replayed_under_the_same_ids(
    build: Delivered, replay_to: Replay, receiver: Receiver
) -> None:
    receiver.status = 503
    assert replay_to("otel_traces", 0.5).undelivered == len(build.receiver.spans)
    receiver.status = 200
    assert replay_to("otel_traces").complete
    assert sorted(s.SerializeToString() for s in receiver.spans) == sorted(
        s.SerializeToString() for s in build.receiver.spans
    )


def test_everything_again_is_byte_for_byte_the_same(build: Delivered, replay_to: Replay, receiver: Receiver) -> None:
    replay_to("openlineage")
    replay_to("openlineage", everything=True)
    first = sorted(request.body for request in build.receiver.acknowledged("/api/v1/lineage"))
    assert sorted(request.body for request in receiver.requests) == sorted(first * 2)


@pytest.mark.parametrize("sink", ["openlineage", "otel_traces", "otel_metrics", "otel_logs"])
def test_a_run_whose_first_record_cannot_be_read_stops_no_sink_and_says_so(
    build: Delivered, kept: RunDirectory, replay_to: Replay, receiver: Receiver, sink: str
) -> None:
    first = next(Reader(kept.journal).read())
    kept.journal.write_bytes(kept.journal.read_bytes().replace(first.line, b"x" * len(first.line)))
    cursor = replay_to(sink)
    assert (cursor.complete, cursor.error) == (True, None)
    assert receiver.lineage == receiver.spans == [], "of which run they would be only that record says"
    result, whole = Run(kept).result(), build.run.result()
    assert (result.run_id, result.outcome, result.counts) == (whole.run_id, whole.outcome, whole.counts)
    assert result.elapsed == pytest.approx(whole.elapsed, abs=5)
    assert "first record" in (result.incomplete or "")


def test_a_failing_answer_is_tried_again_until_it_is_good(
    build: Delivered, replay_to: Replay, receiver: Receiver
) -> None:
    receiver.status = lambda number: 500 if number % 4 == 1 else 200
    assert replay_to("openlineage").complete
    assert_one_start_and_one_end(receiver.lineage)
    assert len(receiver.lineage) == len(lineage_of(build.events))


@pytest.mark.parametrize("status", [400, 422])
def test_a_rejected_message_is_counted_and_never_sent_again(
    build: Delivered, replay_to: Replay, receiver: Receiver, status: int
) -> None:
    receiver.status = lambda number: status if number == 1 else 200
    cursor = replay_to("openlineage")
    total = len(lineage_of(build.events))
    assert (cursor.rejected, cursor.delivered, cursor.undelivered, cursor.complete) == (1, total - 1, 0, True)
    assert len(receiver.requests) == total
    replay_to("openlineage")
    assert len(receiver.requests) == total


def test_what_is_rejected_is_named_with_the_backends_reason(
    build: Delivered, kept: RunDirectory, project: Project
) -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            refused = ".orders" in event["job"]["name"] and event.get("eventType") == "COMPLETE"
            answer(self, 400 if refused else 201, b'{"error":\n "no such field"}' if refused else b"")

    home = kept.path.parents[1]
    with serving(Refusing) as url:
        done = project.spanline("--home", str(home), "replay", "latest", OPENLINEAGE_URL=url)
    assert done.returncode == 0
    for said in (done.stdout.decode(), done.stderr.decode()):
        assert re.search(r"COMPLETE of shop\.main\.shop\.orders\.build\.run, run [0-9a-f-]{36}: ", said)
        assert "400 Client Error: Bad Request for url" in said
        assert '{"error": "no such field"}' in said
    assert "--all sends them again" in done.stdout.decode()


@pytest.mark.slow
def test_a_backend_that_hangs_holds_up_the_end_no_longer_than_one_has_said(
    project: Project, receiver: Receiver
) -> None:
    receiver.open.clear()
    done = project.spanline(
        *ONE_MODEL, **receiver.lineage_environment, **receiver.otel_environment, SPANLINE_FLUSH_TIMEOUT="1"
    )
    after = time.time()
    assert done.returncode == 0
    run = last_run(project)
    (ended,) = [event for event in journal(run) if isinstance(event, events.SessionEnded)]
    assert after - ended.time / 1e9 < 1 + 8, "one second, and what it takes a busy machine to end a process"
    assert run.result().undelivered["openlineage"] == MESSAGES_OF_ONE_MODEL


def test_with_nothing_configured_there_is_no_sink(project: Project) -> None:
    run = project.run("run-operation", "say", "--args", "{text: hello}")
    assert list(run.directory.cursors()) == []
    assert project.spanline("replay", "latest").returncode == 2


# --- sinks of third parties

THIRD_PARTY = """
import os
from spanline.sinks import Message

class Sink:
    lanes, batch, linger = 1, 100, 0.0
    def __init__(self, name):
        self.name = name
    def translate(self, event, state):
        if self.name == "translate_raises":
            raise RuntimeError("no")
        if type(event).__name__ == "NodeFinished":
            yield Message(f"{event.unique_id} {event.status}")
    def deliver(self, payloads):
        if self.name == "deliver_raises":
            raise RuntimeError("no")
        with open(os.environ["THIRD_PARTY_FILE"], "a") as file:
            file.writelines(f"{payload}\\n" for payload in payloads)
    def close(self):
        pass

def good():
    return Sink("good")

def off():
    return None

def setup_raises():
    raise RuntimeError("no")

def translate_raises():
    return Sink("translate_raises")

def deliver_raises():
    return Sink("deliver_raises")
"""
SINKS = ("good", "off", "setup_raises", "translate_raises", "deliver_raises")


@pytest.mark.slow
def test_sinks_of_third_parties_work_and_broken_ones_change_nothing(project: Project, receiver: Receiver) -> None:
    library, file = project.path.parent / "library", project.path.parent / "told"
    installed = library / "third_party-1.0.dist-info"
    installed.mkdir(parents=True)
    (library / "third_party.py").write_text(THIRD_PARTY)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    points = [f"{name} = third_party:{name}" for name in (*SINKS, "nowhere")]
    (installed / "entry_points.txt").write_text("\n".join(["[spanline.sinks]", *points, ""]))
    done = project.spanline(
        "dbt",
        "run",
        "--select",
        "customers happenings",
        **receiver.lineage_environment,
        PYTHONPATH=str(library),
        THIRD_PARTY_FILE=str(file),
        SPANLINE_FLUSH_TIMEOUT="2",
    )
    assert done.returncode == 0, done.stderr.decode()
    assert sorted(file.read_text().splitlines()) == ["model.shop.customers success", "model.shop.happenings success"]
    assert len(receiver.lineage) == MESSAGES_OF_ONE_MODEL + 2
    said = done.stderr.decode()
    assert all(name in said for name in ("setup_raises", "translate_raises", "deliver_raises", "nowhere"))
    run = last_run(project)
    assert run.result().success
    assert run.result().undelivered["deliver_raises"] == 2
    assert "good" not in run.result().undelivered


def test_a_sink_reads_on_where_it_stood_after_its_process_was_killed(project: Project, receiver: Receiver) -> None:
    """The supervisor is killed while a model runs; a replay ends the run and delivers the rest."""
    environment = {**receiver.lineage_environment, "GATE": str(project.path / "open")}
    with project.open("dbt", "run", "-s", "gate", **environment) as supervisor:
        eventually(lambda: len(receiver.lineage) == 4, "the START of session and model, a hook between them")
        supervisor.kill()
    run = last_run(project)
    (project.path / "open").touch()
    eventually(lambda: not run.live, "the runner's end")
    receiver.requests.clear()
    assert project.spanline("replay", "latest", **receiver.lineage_environment).returncode == 0
    ends = {e["job"]["name"]: e["eventType"] for e in receiver.lineage if e["eventType"] != "START"}
    model, session = ends["shop.main.shop.gate"], ends["dbt-run-shop"]
    assert model in ("ABORT", "COMPLETE"), "it was let go on, and may have been faster than the cancel"
    assert session == "ABORT"
    assert receiver.lineage[-1]["run"]["runId"] == run.id
