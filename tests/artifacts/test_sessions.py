"""A session stores its artifacts when it has ended, whatever its outcome, and its outcome is as it would be without."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from spanline import artifacts, events
from spanline.api.start import retry, start, upload
from spanline.errors import ArtifactsNotFound
from spanline.events import ArtifactsUploaded, DeliveryEnded, SessionEnded
from spanline.runner.shared.settings import ARTIFACTS_STORAGE_OPTIONS
from tests.support.clouds import Cloud
from tests.support.journals import journal
from tests.support.project import DEADLINE, SILENT, Project, last_run
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow


def last_told(happened: list[events.Event]) -> ArtifactsUploaded:
    return [event for event in happened if isinstance(event, ArtifactsUploaded)][-1]


def test_a_run_on_the_command_line_stores_what_it_leaves(project: Project, tmp_path: Path) -> None:
    store = f"file://{tmp_path}/store"
    done = project.spanline("--artifacts-url", store, "dbt", "build", "--select", "customers")
    assert (done.returncode, done.stderr) == (0, b"")
    run = last_run(project)
    happened = journal(run)
    order = [type(event) for event in happened if isinstance(event, (SessionEnded, DeliveryEnded, ArtifactsUploaded))]
    assert order == [SessionEnded, ArtifactsUploaded]
    told = last_told(happened)
    assert told.url == f"{store}/dbt-artifacts/shop/build/{run.id}"
    assert {file.name for file in told.files} == {
        "manifest.json.gz", "run_results.json.gz", "journal.jsonl.gz", "dbt.log.gz",
    }  # fmt: skip
    assert told.smaller > 0.5
    assert (run.result().artifacts_url, run.result().upload_error) == (told.url, None)
    assert f"artifacts in {told.url}" in project.spanline("show", run.id).stdout.decode()
    found = artifacts.latest(store, dag="shop", task="build")
    assert json.loads(found.read("manifest.json"))["metadata"]["invocation_id"] in found.read("dbt.log").decode()
    # The command line has it as well.
    fetched = project.spanline("download", "--artifacts-url", store, "--dag", "shop", "state")
    assert fetched.returncode == 0, fetched.stderr
    assert (project.path / "state" / "manifest.json").read_bytes() == found.read("manifest.json")
    gone = project.spanline("download", "--artifacts-url", store, "--dag", "another", "state")
    assert (gone.returncode, gone.stderr.decode()) == (
        2, f"spanline: {store} has no artifacts of dag another, from a session with outcome success\n",
    )  # fmt: skip


def test_a_run_that_fails_stores_its_results_when_the_store_is_there_again(project: Project, tmp_path: Path) -> None:
    arguments = ["dbt", "build", "--select", "customers", "never", "--vars", "{fail_test: true}"]
    dead = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "canary-aws"}
    away = {"SPANLINE_ARTIFACTS_URL": "s3://away", "SPANLINE_ARTIFACTS_TIMEOUT": "1", **dead}
    done = project.spanline(*arguments, **away)
    assert done.returncode == project.dbt(*arguments[1:]).returncode == 1
    run = last_run(project)
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("spanline: the artifacts were not stored: s3://away/dbt-artifacts/shop/build/")
    assert line.endswith(f"`spanline upload {run.id}` tries again")
    assert "canary" not in line
    shown = project.spanline("show", run.id).stdout.decode()
    assert f"try again with: spanline upload {run.id}" in shown
    kept = project.spanline("prune", "--keep", "0")
    assert f"kept {run.id}: its artifacts were not stored" in kept.stdout.decode()

    store = f"file://{tmp_path}/store"
    again = project.spanline("upload", run.id, "--artifacts-url", store)
    assert again.returncode == 0, again.stderr
    assert again.stdout.decode().startswith(f"stored 4 files in {store}/dbt-artifacts/shop/build/{run.id}: ")
    assert "cut: " in again.stdout.decode()
    found = artifacts.latest(store, outcome="failed")
    statuses = {result["status"] for result in json.loads(found.read("run_results.json"))["results"]}
    assert {"success", "fail"} <= statuses
    with pytest.raises(ArtifactsNotFound):
        artifacts.latest(store)  # of a run that succeeded there is none

    # A resume that succeeds takes its place.
    resumed = retry(run.id, home_dir=project.home, stdio=SILENT, artifacts=store)
    assert resumed is not None
    resumed.wait(DEADLINE)
    assert artifacts.latest(store, outcome=None).url == found.url
    assert artifacts.latest(store, outcome=None).contents.session == 2


def test_a_cancelled_run_stores_partial_results(project: Project, tmp_path: Path) -> None:
    """By a detached supervisor, whose storage options dbt never sees."""
    store = f"file://{tmp_path}/store"
    project.write("models/seen.sql", f'select \'{{{{ env_var("{ARTIFACTS_STORAGE_OPTIONS}", "none") }}}}\' as options')
    run = start(
        ["build", "--select", "seen", "gate"],
        project_dir=project.path,
        environment={"GATE": str(tmp_path / "gate")},
        artifacts=artifacts.Storage(url=store, redaction=artifacts.Redaction(macros="drop")),
        storage_options={"auto_mkdir": True},
        detached=True,
    )
    eventually(lambda: run.state.nodes.keys() >= {"model.shop.gate", "model.shop.seen"} and run.state.done == 1)
    run.cancel()
    result = run.wait(DEADLINE)
    assert result.outcome == "cancelled"
    assert (result.upload_error, result.artifacts_url) == (None, f"{store}/dbt-artifacts/shop/build/{run.id}")
    found = artifacts.latest(store, outcome="cancelled")
    results = {each["unique_id"]: each["status"] for each in json.loads(found.read("run_results.json"))["results"]}
    assert results["model.shop.seen"] == "success"
    assert results.get("model.shop.gate") != "success"
    manifest = json.loads(found.read("manifest.json"))
    assert manifest["macros"] == {}
    assert b"'none' as options" in found.read("journal.jsonl")
    assert b"auto_mkdir" not in found.read("journal.jsonl")
    assert ARTIFACTS_STORAGE_OPTIONS not in run.directory.spec.read_text()


def test_a_run_in_s3_with_options_from_a_mapping(copy_project: Callable[[], Project], moto: Cloud) -> None:
    """As an Airflow connection would give them; nothing of them stays."""
    project = copy_project()
    options = {"key": "canary-of-key", "secret": "canary-of-secret", "endpoint_url": moto.endpoint}
    run = project.run("seed", artifacts=f"{moto.url}/mapping", storage_options=options)
    assert run.result().upload_error is None
    assert run.result().success
    for path in run.directory.path.rglob("*"):
        assert not path.is_file() or b"canary" not in path.read_bytes(), path
    told = upload(run.id, home_dir=project.home, storage_options=options)
    assert (told.error, told.url) == (None, run.result().artifacts_url)


def test_what_is_set_wrongly_is_said_before_dbt_begins(project: Project) -> None:
    done = project.spanline("dbt", "build", SPANLINE_ARTIFACTS_URL="bucket/prefix")
    assert done.returncode == 2
    assert done.stderr.decode() == (
        "spanline: artifacts.url: 'bucket/prefix' is not a URL such as s3://bucket/prefix or file:///folder\n"
    )
    assert not project.home.exists() or not os.listdir(project.home / "runs")
