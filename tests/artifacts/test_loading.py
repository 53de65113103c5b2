"""An artifact is loaded, or the outcome says why not; the short forms are empty then, and a log line says it."""

from __future__ import annotations

import gzip
import json
import logging
import os
import threading
from pathlib import Path

import pytest

from spanline import artifacts
from spanline.api.run import Run
from spanline.artifacts import Absent, Invalid, Loaded, WrongVersion, loading
from spanline.artifacts.compress import compressed
from tests.support.project import Project

KINDS = list(loading.VERSIONS)
SHORT_FORMS = {
    "manifest": artifacts.get_manifest,
    "run_results": artifacts.get_run_results,
    "catalog": artifacts.get_catalog,
    "sources": artifacts.get_sources,
}


def kept(run: Run, name: str) -> Path:
    (path,) = run.directory.path.glob(f"artifacts/*/{name}")
    return path


def test_a_manifest_of_dbts_has_its_nodes_and_what_they_depend_on(canary_run: Run) -> None:
    path = kept(canary_run, "manifest.json")
    outcome = artifacts.load("manifest", path)
    assert isinstance(outcome, Loaded)
    assert outcome.version == 12
    expected = json.loads(path.read_text())
    assert outcome.content.metadata.project_name == "shop"
    assert outcome.content.nodes.keys() == expected["nodes"].keys()
    for key, node in outcome.content.nodes.items():
        assert node.depends_on.nodes == expected["nodes"][key].get("depends_on", {}).get("nodes", [])
        assert node.relation_name == expected["nodes"][key]["relation_name"]
        assert node.original_file_path == expected["nodes"][key]["original_file_path"]


def test_results_and_a_catalog_of_dbts(canary_run: Run) -> None:
    results = artifacts.load("run_results", kept(canary_run, "run_results.json").parent)  # a folder does, too
    assert isinstance(results, Loaded)
    assert {r.status for r in results.content.results} == {"success", "pass"}
    assert results.content.args["which"] == "build"
    catalog = artifacts.load("catalog", kept(canary_run, "catalog.json"))
    assert isinstance(catalog, Loaded)
    columns = catalog.content.nodes["model.shop.telling"].columns
    assert columns["answer"].index == 3
    assert columns["id"].type == "INTEGER"


@pytest.mark.slow
def test_freshness_and_the_semantic_manifest_of_dbts(project: Project) -> None:
    done = project.dbt("source", "freshness")
    sources = artifacts.load("sources", project.path / "target")
    assert isinstance(sources, Loaded), done.stdout.decode()
    (fresh,) = sources.content.results
    assert fresh.unique_id == "source.shop.raw.raw_events"
    assert (fresh.status, fresh.max_loaded_at_time_ago_in_s is None) == (
        ("runtime error", True) if fresh.error else (fresh.status, False)
    )
    semantic = artifacts.load("semantic_manifest", project.path / "target" / "semantic_manifest.json")
    assert isinstance(semantic, Loaded)
    assert (semantic.version, semantic.content.metrics) == (None, [])


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_there_is_absent(tmp_path: Path, kind: loading.Kind) -> None:
    assert artifacts.load(kind, tmp_path) == Absent(tmp_path / f"{kind}.json")
    assert artifacts.load(kind, tmp_path / "no" / "where.json") == Absent(tmp_path / "no" / "where.json")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"metadata": 1}', "\x00" * 100, '{"nodes": {"a": '])
def test_what_is_no_artifact_is_invalid(tmp_path: Path, kind: loading.Kind, text: str) -> None:
    path = tmp_path / "artifact.json"
    path.write_text(text)
    outcome = artifacts.load(kind, path)
    # What says no version is none that is known.
    assert isinstance(outcome, (Invalid, WrongVersion) if text == "{}" else Invalid)
    assert str(path) in str(outcome)


def test_an_artifact_that_is_cut_off_anywhere_is_invalid(canary_run: Run, tmp_path: Path) -> None:
    whole = kept(canary_run, "run_results.json").read_bytes()
    path = tmp_path / "run_results.json"
    for size in range(0, len(whole.rstrip()), max(1, len(whole) // 97)):
        path.write_bytes(whole[:size])
        assert isinstance(artifacts.load("run_results", path), Invalid)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("manifest", "https://schemas.getdbt.com/dbt/manifest/v99.json"),
        ("manifest", "https://schemas.getdbt.com/dbt/manifest/v4.json"),
        ("manifest", "https://schemas.getdbt.com/dbt/run-results/v6.json"),
        ("run_results", "https://schemas.getdbt.com/dbt/run-results/v7.json"),
        ("sources", "https://schemas.getdbt.com/dbt/sources/v2.json"),
        ("catalog", "of our own"),
    ],
)
def test_another_version_is_said(tmp_path: Path, kind: loading.Kind, said: str) -> None:
    path = tmp_path / "artifact.json"
    path.write_text(json.dumps({"metadata": {"dbt_schema_version": said}, "nodes": "of another shape"}))
    outcome = artifacts.load(kind, path)
    assert isinstance(outcome, WrongVersion)
    assert said in str(outcome)


def test_a_folder_is_no_file_and_is_said(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").mkdir()
    assert isinstance(artifacts.load("manifest", tmp_path / "manifest.json" / ".."), Invalid)


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_what_is_compressed_is_loaded_whatever_its_name(canary_run: Run, tmp_path: Path, codec: str) -> None:
    path = kept(canary_run, "manifest.json")
    for name in ("manifest.json", "manifest.json.gz"):
        with compressed(tmp_path / name, codec) as write:  # type: ignore[arg-type]
            write(path.read_bytes())
        loaded = artifacts.load("manifest", tmp_path / name)
        assert isinstance(loaded, Loaded)
        assert loaded.content == artifacts.load("manifest", path).content  # type: ignore[union-attr]
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-20])
        assert isinstance(artifacts.load("manifest", tmp_path / name), Invalid)


def test_the_short_forms_have_all_of_it(canary_run: Run) -> None:
    for kind, short in SHORT_FORMS.items():
        if kind != "sources":
            path = kept(canary_run, f"{kind}.json")
            assert short(path.parent) == short(path) == json.loads(path.read_text())


@pytest.mark.parametrize("kind", SHORT_FORMS)
def test_the_short_forms_are_empty_and_say_why(tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    short = SHORT_FORMS[kind]
    with caplog.at_level(logging.DEBUG, "spanline"):
        assert short(tmp_path) == {}
        (tmp_path / f"{kind}.json").write_text("{")
        assert short(tmp_path) == {}
        said = {"metadata": {"dbt_schema_version": f"https://schemas.getdbt.com/dbt/{kind}/v99.json"}}
        (tmp_path / f"{kind}.json").write_text(json.dumps(said))
        assert short(tmp_path) == said
    assert [record.levelname for record in caplog.records] == ["DEBUG", "ERROR", "WARNING"]
    assert all(str(tmp_path / f"{kind}.json") in record.getMessage() for record in caplog.records)


def test_the_short_forms_look_where_dbt_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = {"metadata": {"dbt_schema_version": "https://schemas.getdbt.com/dbt/catalog/v1.json"}, "nodes": {}}
    for folder in ("target", "elsewhere"):
        Path(folder).mkdir()
        Path(folder, "catalog.json").write_text(json.dumps({**text, "sources": {}, "errors": [folder]}))
    assert artifacts.get_catalog()["errors"] == ["target"]
    monkeypatch.setenv("DBT_TARGET_PATH", "elsewhere")
    assert artifacts.get_catalog()["errors"] == ["elsewhere"]


def test_a_file_that_is_truncated_meanwhile_kills_nobody(canary_run: Run, tmp_path: Path) -> None:
    """As dbt does it: whoever has mapped the file itself gets a SIGBUS."""
    whole = kept(canary_run, "manifest.json").read_bytes()
    path = tmp_path / "manifest.json"
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            path.write_bytes(whole)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        outcomes = {type(artifacts.load("manifest", path)) for _ in range(50)}
    finally:
        over.set()
        writer.join()
    assert outcomes <= {Loaded, Invalid, Absent}


@pytest.mark.slow
def test_an_artifact_of_half_a_gigabyte(canary_run: Run, tmp_path: Path) -> None:
    manifest = json.loads(kept(canary_run, "manifest.json").read_text())
    node = json.dumps({**manifest["nodes"]["model.shop.telling"], "raw_code": "x" * 50_000})
    path = tmp_path / "manifest.json"
    with path.open("w") as file:
        file.write(json.dumps({"metadata": manifest["metadata"]})[:-1] + ', "nodes": {')
        count = 0
        while file.tell() < 500 << 20:
            file.write(f'{"," if count else ""}"model.shop.n{count}": {node}')
            count += 1
        file.write("}}")
    outcome = artifacts.load("manifest", path)
    assert isinstance(outcome, Loaded)
    assert len(outcome.content.nodes) == count
    os.truncate(path, 400 << 20)
    assert isinstance(artifacts.load("manifest", path), Invalid)


def test_gzip_of_the_command_line_is_read(tmp_path: Path) -> None:
    """Of several members, as `cat a.gz b.gz` makes."""
    text = b'{"metadata": {"dbt_schema_version": "x"}}'
    (tmp_path / "m.json").write_bytes(gzip.compress(text[:10]) + gzip.compress(text[10:]))
    assert isinstance(artifacts.load("manifest", tmp_path / "m.json"), WrongVersion)
