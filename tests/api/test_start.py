"""The Python API: run, start and attach; follow, wait, cancel; and what a failure raises."""

from __future__ import annotations

import asyncio
import math
import os
import pkgutil
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import spanline
from spanline import events
from spanline.api.run import Run
from spanline.dbt import interpreter
from tests.support.journals import journal
from tests.support.project import DEADLINE, SILENT, Project
from tests.support.waiting import eventually


@pytest.fixture
def gate(project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    """While this file isn't there, the model `gate` runs."""
    path = project.path / "open"
    monkeypatch.setenv("GATE", str(path))
    return path


@pytest.fixture
def gated(project: Project, gate: Path) -> Run:
    """A run in which the model `gate` runs."""
    run = project.start("run", "-s", "gate")
    eventually(lambda: "model.shop.gate" in run.state.nodes, "the node under way")
    return run


# --- run


def test_run_returns_the_result_of_a_run_that_is_over(project: Project, capfd: pytest.CaptureFixture[str]) -> None:
    result = spanline.run(["run", "-s", "customers happenings"], project_dir=project.path)
    assert result.success
    assert (result.outcome, result.exit_code, result.error) == ("success", 0, None)
    assert result.counts == {"success": 2}
    assert result.failed_nodes == ()
    assert {node.unique_id: node.path for node in result.nodes} == {
        "model.shop.customers": Path("models/customers.sql"),
        "model.shop.happenings": Path("models/happenings.sql"),
    }
    assert result.elapsed > 0
    assert result.raise_for_failure() is result
    assert result.directory == project.home / "runs" / result.run_id
    assert "Completed successfully" in capfd.readouterr().out, "dbt's output is the caller's"


@pytest.mark.slow
def test_the_environment_that_a_run_is_given_may_name_its_parent_in_lineage(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    above, task = "01890a5d-ac96-774b-bcce-b302099a8056", "01890a5d-ac96-774b-bcce-b302099a8057"
    monkeypatch.setenv("OPENLINEAGE_PARENT_ID", f"airflow/another/{above}")
    parent = {"OPENLINEAGE_PARENT_ID": f"airflow/nightly.build/{task}"}
    result = spanline.run(["parse"], project_dir=project.path, environment=parent)
    resumed = spanline.retry(result.run_id, home_dir=project.home, full=True)
    assert resumed is not None
    resumed.wait()
    first, second = (event for event in journal(resumed) if isinstance(event, events.SessionStarted))
    assert first.lineage_parent == events.LineageRun("airflow", "nightly.build", task)
    assert second.lineage_parent == events.LineageRun("airflow", "another", above), "of who resumes it"


def test_the_dbt_of_this_interpreter_is_known_without_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", None)
    assert interpreter.check(sys.executable) == metadata.version("dbt-core")


def test_a_package_of_the_callers_that_hides_dbt_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dbt").mkdir()
    (tmp_path / "dbt" / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    asked: list[object] = []
    run = subprocess.run

    def listening(*args: object, **options: object) -> object:
        asked.append(args)
        return run(*args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "run", listening)
    assert interpreter.check(sys.executable) == metadata.version("dbt-core")
    assert asked, "the interpreter itself was asked"


def test_the_home_ignores_itself_in_git(project: Project) -> None:
    subprocess.run(["git", "init", "-q"], cwd=project.path, check=True)
    project.run("clean")
    status = ["git", "status", "--porcelain", "--untracked-files=all"]
    listed = subprocess.run(status, cwd=project.path, capture_output=True, text=True, check=True).stdout
    assert "models/" in listed
    assert ".spanline" not in listed


@pytest.mark.slow
def test_the_home_is_where_the_caller_says(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPANLINE_HOME", str(tmp_path / "of variable"))
    run = project.run("clean")
    assert run.directory.path.parent == tmp_path / "of variable" / "runs"
    assert spanline.attach("latest").id == run.id
    other = project.run("clean", home_dir=tmp_path / "of argument")
    assert other.directory.path.parent == tmp_path / "of argument" / "runs"
    assert not project.home.exists()


@pytest.mark.slow
def test_what_is_passed_for_a_run_reaches_dbt_and_nobody_else(project: Project, tmp_path: Path) -> None:
    database = tmp_path / "own.duckdb"
    run = project.run("seed", environment={"SHOP_DB": str(database)}, caller={"dag": "nightly"})
    assert run.result().success
    assert database.exists()
    assert "SHOP_DB" not in os.environ
    assert run.state.session is not None
    assert run.state.session.caller == {"dag": "nightly"}


# --- steps


@pytest.mark.slow
def test_steps_are_done_in_order(project: Project) -> None:
    run = project.start(["seed", "-s", "raw_customers"], ["run", "-s", "customers"])
    result = run.wait(DEADLINE)
    assert result.success
    assert [node.unique_id for node in result.nodes] == ["seed.shop.raw_customers", "model.shop.customers"]
    steps = [(event.step, event.argv[0]) for event in journal(run) if isinstance(event, events.StepStarted)]
    assert steps == [(1, "seed"), (2, "run")]
    assert len({e.invocation_id for e in journal(run) if isinstance(e, events.DbtStarted)}) == 2


@pytest.mark.slow
def test_steps_stop_at_the_first_that_fails(project: Project) -> None:
    run = project.start(["clean"], ["run-operation", "boom"], ["seed"])
    result = run.wait(DEADLINE)
    assert (result.outcome, result.exit_code) == ("failed", 1)
    begun = [event.argv[0] for event in journal(run) if isinstance(event, events.StepStarted)]
    assert begun == ["clean", "run-operation"]


# --- following


def test_events_are_the_journal_from_its_start_to_its_end(project: Project) -> None:
    run = project.start("clean")
    seen = list(run.events())
    assert isinstance(seen[0], events.SessionStarted)
    assert isinstance(seen[-1], events.SessionEnded)
    run.wait(DEADLINE)
    assert seen == journal(run)
    assert list(run.events()) == seen, "and again, once it is over"


def test_events_come_while_the_run_goes_on(gated: Run, gate: Path) -> None:
    for event in gated.events():
        if isinstance(event, events.NodeStarted):
            assert gated.live
            gate.touch()
    assert gated.wait(DEADLINE).success


def test_an_event_loop_can_follow_and_do_other_things_meanwhile(gated: Run, gate: Path) -> None:
    async def follow() -> list[events.Event]:
        return [event async for event in gated.aevents()]

    async def open_later() -> None:
        for _ in range(10):
            await asyncio.sleep(0.01)
        assert gated.live
        gate.touch()

    async def both() -> list[events.Event]:
        seen, _ = await asyncio.gather(follow(), open_later())
        return seen

    assert asyncio.run(asyncio.wait_for(both(), DEADLINE)) == journal(gated)


def test_the_state_says_what_is_under_way(gated: Run, gate: Path) -> None:
    state = gated.state
    assert [node.unique_id for node in state.open_nodes] == ["model.shop.gate"]
    assert (state.done, state.total) == (0, 1)
    assert state.ended is None
    gate.touch()
    gated.wait(DEADLINE)
    assert (gated.state.done, gated.state.total, gated.state.open_nodes) == (1, 1, [])


def test_wait_gives_up_after_its_time_and_leaves_the_run_alone(gated: Run, gate: Path) -> None:
    with pytest.raises(TimeoutError, match=gated.id):
        gated.wait(0.05)
    with pytest.raises(spanline.UsageError, match="is still running"):
        gated.result()
    gate.touch()
    assert gated.wait(DEADLINE).success
    assert gated.result() == gated.wait(0)


# --- runs of others


def test_a_run_can_be_attached_to_while_it_goes_on(gated: Run, gate: Path, project: Project) -> None:
    for reference in (gated.id, gated.id[:13], "latest"):
        other = spanline.attach(reference, home_dir=project.home)
        assert other.id == gated.id
        assert other.live
        with pytest.raises(TimeoutError):
            other.wait(0.05)
    gate.touch()
    assert other.wait(DEADLINE).counts == {"success": 1}
    assert gated.wait(DEADLINE) == other.result()


def test_who_asks_for_a_run_that_is_under_way_is_attached_to_it(gated: Run, gate: Path, project: Project) -> None:
    again = spanline.start(["run", "-s", "gate"], project_dir=project.path, run_id=gated.id, stdio=SILENT)
    with pytest.raises(spanline.RunBusy, match=r"with other arguments"):
        spanline.start(["build"], project_dir=project.path, run_id=gated.id, stdio=SILENT)
    gate.touch()
    assert again.wait(DEADLINE).success
    assert len([event for event in journal(gated) if isinstance(event, events.DbtStarted)]) == 1
    gated.wait(DEADLINE)
    with pytest.raises(spanline.UsageError, match="has already ended"):
        spanline.start(["run", "-s", "gate"], project_dir=project.path, run_id=gated.id, stdio=SILENT)


def test_a_detached_run_is_supervised_by_another_process(project: Project) -> None:
    run = project.start("run", "-s", "customers", detached=True)
    assert run.wait(DEADLINE).counts == {"success": 1}
    session = run.state.session
    assert session is not None
    assert session.detached
    assert session.pid != os.getpid()
    assert "Completed successfully" in run.directory.stdout.read_text()


@pytest.mark.slow
def test_two_runs_of_one_project_at_the_same_time_do_not_mix(project: Project, tmp_path: Path) -> None:
    def start(name: str) -> Run:
        target = ("--target-path", str(tmp_path / name))
        database = {"SHOP_DB": str(tmp_path / f"{name}.duckdb")}
        return project.start("build", "-s", f"+{name}", *target, environment=database)

    both = {name: start(name) for name in ("customers", "happenings")}
    for run in both.values():
        assert run.wait(DEADLINE).success
    found = {name: journal(run) for name, run in both.items()}
    assert {e.unique_id for e in found["customers"] if isinstance(e, events.NodeFinished)} == {
        "seed.shop.raw_customers",
        "model.shop.customers",
    }
    assert {e.unique_id for e in found["happenings"] if isinstance(e, events.NodeFinished)} == {"model.shop.happenings"}
    ids = {e.invocation_id for happened in found.values() for e in happened if isinstance(e, events.DbtStarted)}
    assert len(ids) == 2
    began = {name: run.state.started for name, run in both.items()}
    assert all(began[name] < min(run.state.last for run in both.values()) for name in both), "they overlapped"


# --- failures


@pytest.mark.slow
def test_failed_nodes_raise_a_runtime_exception_that_names_them(project: Project) -> None:
    result = project.run("build", "-s", "fragile+ never", "--vars", "{break: true, fail_test: true}").result()
    with pytest.raises(spanline.DbtRuntimeException, match=result.run_id) as raised:
        result.raise_for_failure()
    assert set(raised.value.failed_nodes) == {"model.shop.fragile", "test.shop.never"}
    assert raised.value.run_id == result.run_id
    assert {node.cause for node in result.nodes if node.status == "skipped"} == {"model.shop.fragile"}


def test_a_project_that_does_not_parse_raises_a_compilation_exception(project: Project) -> None:
    project.write("models/bad.sql", "select {{ nothing(")
    result = project.run("run").result()
    assert (result.outcome, result.exit_code, result.nodes) == ("failed", 2, ())
    with pytest.raises(spanline.DbtCompilationException, match=r"bad\.sql"):
        result.raise_for_failure()


def test_a_cancelled_run_raises_that_it_was(project: Project) -> None:
    project.write("models/slow.sql", "select count(*) as n from range(100000000000) a")
    run = project.start("run", "-s", "slow")
    eventually(lambda: "model.shop.slow" in run.state.nodes, "the slow model")
    run.cancel(by="a test", reason="because")
    result = run.wait(DEADLINE)
    assert result.counts == {"cancelled": 1}
    with pytest.raises(spanline.DbtCancelled, match="a test"):
        result.raise_for_failure()
    (order,) = [event for event in journal(run) if isinstance(event, events.CancelRequested)]
    assert (order.by, order.reason, order.grace) == ("a test", "because", 30.0)


def test_a_killed_runner_raises_that_it_died_and_of_what(gated: Run) -> None:
    (attempt,) = [event for event in journal(gated) if isinstance(event, events.AttemptStarted)]
    os.kill(attempt.pid, signal.SIGKILL)
    result = gated.wait(DEADLINE)
    assert (result.outcome, result.exit_code, result.counts) == ("died", 2, {"interrupted": 1})
    with pytest.raises(spanline.RunnerDied, match="SIGKILL") as raised:
        result.raise_for_failure()
    assert raised.value.signal == "SIGKILL"


def test_every_failure_is_a_dbt_exception_and_every_misuse_is_none() -> None:
    kinds = (
        spanline.DbtCompilationException,
        spanline.DbtRuntimeException,
        spanline.DbtCancelled,
        spanline.RunnerDied,
    )
    assert all(issubclass(kind, spanline.DbtException) for kind in kinds)
    assert not issubclass(spanline.UsageError, spanline.DbtException)
    assert issubclass(spanline.UsageError, spanline.SpanlineError)


# --- misuse


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ("build --select x", "as a list"),
        ([], "at least one dbt command"),
        ([[]], "at least one dbt command"),
        ([["seed"], []], "at least one dbt command"),
        (["build", ["seed"]], "not a mixture"),
        ([["build", 5]], "5 is not"),
        ([5], "a list of strings"),
        (None, "a list of strings"),
        (["build", Path("x")], "'x'.* is not"),
        (
            ["build", "--vars", '{"password": "hush", "x": "\udcff"}'],
            "^an argument or variable is not UTF-8 text,",
        ),
    ],
)
def test_steps_that_are_none_are_refused(project: Project, steps: list[str], said: str) -> None:
    with pytest.raises(spanline.UsageError, match=said):
        spanline.start(steps, project_dir=project.path)
    assert not project.home.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"environment": {"X": 4}}, "must be strings"),
        ({"environment": {"DBT_PROJECT_DIR": None}}, "must be strings"),
        ({"environment": {"X=": "4"}}, "holds ="),
        ({"environment": {"": "4"}}, "is empty"),
        ({"environment": {"X": "a\0b"}}, "a NUL"),
        ({"caller": {"task": 4}}, r"caller\[...\]: Expected `str`, got `int`"),
        ({"caller": {4: "task"}}, r"caller: Expected `str`, got `int`"),
        ({"timeout": "5"}, "timeout: Expected `float.*, got `str`"),
        ({"timeout": math.nan}, "timeout: Expected `float` >= 0"),
        ({"node_timeout": -1}, "node_timeout: Expected `float` >= 0"),
        ({"grace": math.inf}, "grace: Expected `float` <="),
        ({"retry_limit": 0}, "retry_limit: Expected `int` >= 1"),
        ({"retry_delay": -0.5}, "retry_delay: Expected `float` >= 0"),
    ],
)
def test_values_that_no_run_can_have_are_refused_before_anything_is_written(
    project: Project, options: dict[str, object], said: str
) -> None:
    with pytest.raises(spanline.UsageError, match=said):
        spanline.start(["build"], project_dir=project.path, **options)  # type: ignore[arg-type]
    assert not project.home.exists()


@pytest.mark.slow
def test_steps_may_come_from_any_iterable(project: Project) -> None:
    class Word(str):
        """As numpy's and ruamel's."""

    steps = iter([(Word("debug"),), ("list",)])
    environment = {Word("SHOP"): Word("open")}
    run = spanline.start(steps, project_dir=project.path, stdio=SILENT, environment=environment)  # type: ignore[arg-type]
    assert run.wait(DEADLINE).success
    assert [attempt.argv for attempt in run.state.attempts] == [["debug"], ["list"]]


def test_what_is_not_there_is_refused_before_anything_is_written(project: Project, tmp_path: Path) -> None:
    with pytest.raises(spanline.UsageError, match="there is no directory"):
        spanline.start(["build"], project_dir=tmp_path / "nowhere")
    with pytest.raises(spanline.UsageError, match="cannot start the interpreter"):
        spanline.start(["build"], project_dir=project.path, python="/nowhere/python")
    with pytest.raises(spanline.RunNotFound, match="no run 'nothing'"):
        spanline.attach("nothing", home_dir=project.home)
    assert not project.home.exists()


def test_no_module_hides_a_public_name() -> None:
    """Importing `spanline.x` binds the module to the name `x` of the package."""
    modules = {module.name for module in pkgutil.iter_modules(spanline.__path__)}
    assert modules & set(spanline.__all__) == {"artifacts", "events", "profiles"}


def test_every_public_name_is_there() -> None:
    for name in spanline.__all__:
        assert getattr(spanline, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = spanline.nothing  # type: ignore[attr-defined]
