"""What a run has left is stored whole or not at all, whatever the store does, and nothing is lost here."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from spanline import events
from spanline.artifacts import latest
from spanline.artifacts.send import LOCK, escaped
from spanline.artifacts.stage import CONTENTS
from spanline.artifacts.store import Properties, Store
from spanline.errors import ArtifactsNotFound, RunBusy, UsageError
from spanline.events import ArtifactsUploaded
from spanline.home import lease
from spanline.home.home import RunDirectory
from spanline.home.spec import RunSpec
from spanline.home.storage import Redaction, Storage, storage_of
from spanline.journal import ids
from spanline.journal.reader import Reader
from spanline.supervisor.upload import upload_again
from tests.support import proxy as proxies
from tests.support.clouds import Cloud
from tests.support.journals import session_started, undelivered
from tests.support.proxy import Proxy
from tests.support.waiting import eventually

RESULTS = '{"metadata": {"dbt_schema_version": "https://schemas.getdbt.com/dbt/run-results/v6.json"}, "results": []}'
MANIFEST = json.dumps(
    {
        "metadata": {"dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json"},
        "nodes": {f"model.shop.m{number}": {"name": f"m{number}", "raw_code": "select 1"} for number in range(500)},
    }
)

MakeRun = Callable[..., RunDirectory]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """A run that has ended and was never stored, without a dbt."""

    def make(
        files: dict[str, str] | None = None,
        *,
        caller: dict[str, str] | None = None,
        outcome: str = "success",
        ended: int | None = None,
    ) -> RunDirectory:
        run_id = ids.new_run_id()
        happened = [
            session_started(run_id, project="shop", caller=caller or {}),
            events.SessionEnded(outcome=outcome, exit_code=0 if outcome == "success" else 1),
        ]
        directory = undelivered(tmp_path, run_id, happened)
        spec = RunSpec(
            run_id=run_id, steps=[["deps"], ["build"]], cwd="/", project_dir="/p/shop", python="", caller=caller or {}
        )
        directory.spec.write_bytes(spec.encode())
        usual = {"manifest.json": MANIFEST, "run_results.json": RESULTS}
        for name, text in (usual if files is None else files).items():
            place = directory.artifacts(1, 2, 1) / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        return directory

    return make


@pytest.fixture
def s3(moto: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Storage, Proxy]]:
    """A prefix of this test's own in S3, and a proxy before it."""
    with proxies.before(moto.endpoint) as proxy:
        for name, value in {**moto.environment, "AWS_ENDPOINT_URL": proxy.url, "AWS_MAX_ATTEMPTS": "1"}.items():
            monkeypatch.setenv(name, value)
        yield Storage(url=f"{moto.url}/{ids.new_run_id()}", timeout=30.0), proxy


def keys(storage: Storage) -> set[str]:
    return {found.key for found in Store(storage.url).find("")}


def told(directory: RunDirectory) -> list[ArtifactsUploaded]:
    found = [record.event for record in Reader(directory.journal).read()]
    return [event for event in found if isinstance(event, ArtifactsUploaded)]


def test_files_stand_under_the_default_key_and_come_back(
    make_run: MakeRun, reachable: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(url=f"{reachable.url}/{ids.new_run_id()}")
    run = make_run()
    done = upload_again(run, storage)
    assert done.error is None
    key = f"dbt-artifacts/shop/build/{run.run_id}"
    assert done.url == f"{storage.url}/{key}"
    names = {"manifest.json.gz", "run_results.json.gz", "journal.jsonl.gz"}
    assert keys(storage) == {f"{key}/{name}" for name in (*names, CONTENTS)}
    assert {file.name for file in done.files} == names
    assert done.smaller > 0.7  # of 50 to 70 % that are the least
    assert not run.upload.exists()
    (event,) = told(run)
    assert (event.url, event.files, event.session) == (done.url, done.files, 1)

    found = latest(storage.url, dag="shop")
    assert (found.url, found.contents.run_id, found.contents.outcome) == (done.url, run.run_id, "success")
    folder = found.download(tmp_path / "state")
    assert {path.name for path in folder.iterdir()} == {"manifest.json", "run_results.json"}
    assert json.loads((folder / "manifest.json").read_text()) == json.loads(MANIFEST)
    assert b'"type":"session_ended"' in found.read("journal.jsonl")

    # Replaced by a retry: what it doesn't have any more is gone.
    (run.artifacts(1, 2, 1) / "run_results.json").unlink()
    again = upload_again(run, Storage(url=storage.url, compression="zstd"))
    assert again.error is None
    assert keys(storage) == {f"{key}/{name}" for name in ("manifest.json.zst", "journal.jsonl.zst", CONTENTS)}
    assert json.loads(latest(storage.url).read("manifest.json")) == json.loads(MANIFEST)


def test_the_marker_goes_first_and_comes_last(make_run: MakeRun, s3: tuple[Storage, Proxy]) -> None:
    storage, proxy = s3
    run = make_run()
    assert upload_again(run, storage).error is None
    proxy.requests.clear()
    assert upload_again(run, storage).error is None
    changes = [(method, path.rpartition("/")[2]) for method, path in proxy.requests if method in ("PUT", "DELETE")]
    assert changes[:2] == [("PUT", LOCK), ("DELETE", CONTENTS)]
    assert changes[-2:] == [("PUT", CONTENTS), ("DELETE", LOCK)]


def test_airflows_names_make_the_key(make_run: MakeRun, tmp_path: Path) -> None:
    storage = Storage(url=f"file://{tmp_path}/store")
    caller = {"dag_id": "nightly", "task_id": "build", "run_id": "scheduled__2026-11-30T00:00:00+00:00"}
    assert upload_again(make_run(caller=caller), storage).url.endswith(
        "/dbt-artifacts/nightly/build/scheduled__2026-11-30T00:00:00+00:00"
    )
    url = upload_again(make_run(caller={**caller, "map_index": "3"}), storage).url
    assert url.split("/")[-2] == "build.map_index=3"
    assert latest(storage.url, dag="nightly", task="build.map_index=3").contents.task == "build.map_index=3"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("наш-даг", "наш-даг"),
        ("a/b", "a%2Fb"),
        ("..", "%2E%2E"),
        ("a b?c#d*[e]", "a%20b%3Fc%23d%2A%5Be%5D"),
        ("100%", "100%25"),
        ("line\nbreak\x00", "line%0Abreak%00"),
        ("scheduled__2026-11-30T00:00:00+00:00", "scheduled__2026-11-30T00:00:00+00:00"),
    ],
)
def test_a_value_is_one_part_of_the_key(value: str, expected: str) -> None:
    assert escaped(value) == expected


def test_a_value_that_leads_elsewhere_is_stored_where_it_should_be(make_run: MakeRun, tmp_path: Path) -> None:
    storage = Storage(url=f"file://{tmp_path}/store", key="{dag}/latest")
    done = upload_again(make_run(caller={"dag_id": "../a b"}), storage)
    assert (done.error, done.url) == (None, f"{storage.url}/..%2Fa%20b/latest")
    assert latest(storage.url, dag="../a b", key=storage.key).contents.dag == "../a b"


def test_a_key_with_unicode_and_blanks_comes_back_on_every_cloud(make_run: MakeRun, reachable: Cloud) -> None:
    storage = Storage(url=f"{reachable.url}/{ids.new_run_id()}/größe 1", key="Läufe/{dag}/{run}")
    done = upload_again(make_run(caller={"dag_id": "毎晩", "run_id": "r:1+2"}), storage)
    assert (done.error, done.url) == (None, f"{storage.url}/Läufe/毎晩/r:1+2")
    assert latest(storage.url, dag="毎晩", key=storage.key).url == done.url


def test_a_store_that_throttles_is_asked_again(make_run: MakeRun, s3: tuple[Storage, Proxy]) -> None:
    storage, proxy = s3
    refused: list[str] = []

    def rule(method: str, path: str, number: int) -> int | None:
        if method != "PUT" or not number % 2:
            return None
        refused.append(path)
        return 503

    proxy.rule = rule
    run = make_run()
    assert upload_again(run, storage).error is None
    assert refused
    assert latest(storage.url).contents.run_id == run.run_id


@pytest.mark.slow
def test_a_store_that_dies_meanwhile_costs_nothing_but_time(make_run: MakeRun, s3: tuple[Storage, Proxy]) -> None:
    storage, proxy = s3
    dead = threading.Event()

    def rule(method: str, path: str, _number: int) -> str | None:
        if method == "PUT" and "run_results" in path:
            dead.set()
        return proxies.HANG_UP if dead.is_set() else None

    proxy.rule = rule
    run = make_run()
    done = upload_again(run, Storage(url=storage.url, timeout=4.0))
    assert done.error is not None
    assert storage.url in done.error
    assert told(run)[-1].error == done.error
    staged = {path.name: path.read_bytes() for path in run.upload.iterdir()}
    assert staged.keys() == {"manifest.json.gz", "run_results.json.gz", "journal.jsonl.gz", CONTENTS}
    proxy.rule = lambda *_: None
    with pytest.raises(ArtifactsNotFound):
        latest(storage.url, outcome=None)  # what is there isn't whole, and nobody takes it for that

    assert upload_again(run, storage).error is None
    found = latest(storage.url)
    for name, file in found.contents.files.items():
        assert hashlib.sha256(found.read(name)).hexdigest() == file.sha256
    # The very same bytes, although the journal has grown by the event of the first try.
    store = Store(storage.url)
    (key,) = {key.rpartition("/")[0] for key in keys(storage)}
    assert {name: store.get(f"{key}/{name}") for name in staged} == staged


def test_what_the_store_has_not_got_whole_is_sent_again(make_run: MakeRun, s3: tuple[Storage, Proxy]) -> None:
    storage, proxy = s3
    spoilt: list[str] = []

    def rule(method: str, path: str, _number: int) -> str | None:
        if method == "PUT" and "manifest" in path and len(spoilt) < 2:
            spoilt.append(path)
            return proxies.CUT_BODY
        return None

    proxy.rule = rule
    assert upload_again(make_run(), storage).error is None
    assert len([path for path in proxy.asked("PUT") if "manifest" in path]) == 3
    assert json.loads(latest(storage.url).read("manifest.json")) == json.loads(MANIFEST)


@pytest.mark.parametrize("status", [403, 404])
def test_a_store_that_refuses_is_not_asked_again(make_run: MakeRun, s3: tuple[Storage, Proxy], status: int) -> None:
    storage, proxy = s3
    proxy.rule = lambda *_: status
    run = make_run()
    began = time.monotonic()
    done = upload_again(run, storage)
    assert done.error is not None
    assert time.monotonic() - began < storage.timeout
    assert len(proxy.asked("PUT")) == 1
    assert run.upload.is_dir()


def test_a_bucket_that_is_not_there_is_named(make_run: MakeRun, s3: tuple[Storage, Proxy]) -> None:
    run = make_run()
    done = upload_again(run, Storage(url="s3://nowhere/prefix"))
    assert done.error is not None
    assert "s3://nowhere/prefix" in done.error
    assert "bucket does not exist" in done.error
    assert run.upload.is_dir()


@pytest.mark.slow
def test_a_store_that_never_answers_is_left_in_time(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "nobody")
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        run = make_run()
        began = time.monotonic()
        done = upload_again(run, Storage(url="s3://artifacts", timeout=1.0), staging=4.0)
    assert done.error == "it took longer than 5 s"
    assert time.monotonic() - began < 15


def test_two_uploads_of_one_run_do_not_meet(make_run: MakeRun, s3: tuple[Storage, Proxy]) -> None:
    storage, proxy = s3
    run = make_run()
    gate = threading.Event()
    proxy.rule = lambda *_: None if gate.wait(30) else 500
    with ThreadPoolExecutor() as pool:
        first = pool.submit(upload_again, run, storage)
        eventually(lambda: lease.is_held(run.lease))
        with pytest.raises(RunBusy, match="held by another process"):
            upload_again(run, storage)
        gate.set()
        assert first.result().error is None


@pytest.mark.slow
def test_two_runs_of_one_key_take_turns(make_run: MakeRun, s3: tuple[Storage, Proxy]) -> None:
    """As two tries of an Airflow task on two workers: each is there whole, the last one stays."""
    storage, _ = s3
    same = Storage(url=storage.url, key="{dag}/latest", timeout=30.0)
    runs = [make_run({"manifest.json": MANIFEST.replace("m1", f"of_{n}_")}) for n in range(3)]
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda run: upload_again(run, same), runs))
    assert [each.error for each in done] == [None] * 3
    found = latest(same.url, key=same.key)
    winner = [run.run_id for run in runs].index(found.contents.run_id)
    assert f"of_{winner}_" in found.read("manifest.json").decode()
    assert not [key for key in keys(same) if key.endswith(LOCK)]


@pytest.mark.parametrize(("mine", "until", "taken"), [(True, 1e12, True), (False, 1.0, True), (False, 1e12, False)])
def test_a_lock_that_was_left_is_taken_over(
    make_run: MakeRun, tmp_path: Path, *, mine: bool, until: float, taken: bool
) -> None:
    storage = Storage(url=f"file://{tmp_path}/store", key="{dag}", timeout=2.0)
    run = make_run()
    lock = {"run_id": run.run_id if mine else "another", "by": "pid 7 on h", "until": until}
    Store(storage.url).create(f"shop/{LOCK}", json.dumps(lock).encode(), Properties())
    done = upload_again(run, storage)
    if taken:
        assert done.error is None
    else:
        assert done.error == f"{storage.url}/shop: another upload is under way there, of run another (pid 7 on h)"


def test_artifacts_that_are_no_artifacts_are_left_out_and_said(make_run: MakeRun, tmp_path: Path) -> None:
    storage = Storage(url=f"file://{tmp_path}/store")
    newer = '{"metadata": {"dbt_schema_version": "https://schemas.getdbt.com/dbt/catalog/v99.json"}, "new": {"a": [1]}}'
    run = make_run(
        {"manifest.json": "", "run_results.json": RESULTS[:-20], "sources.json": "[1]", "catalog.json": newer}
    )
    done = upload_again(run, storage)
    assert done.error is None
    assert set(done.left_out) == {"manifest.json", "run_results.json", "sources.json"}
    assert all(done.left_out.values())
    assert json.loads(latest(storage.url, having="catalog.json").read("catalog.json")) == json.loads(newer)
    assert all((run.artifacts(1, 2, 1) / name).exists() for name in done.left_out)


def test_a_run_that_left_no_artifact_stores_its_journal(make_run: MakeRun, tmp_path: Path) -> None:
    storage = Storage(url=f"file://{tmp_path}/store")
    assert [file.name for file in upload_again(make_run({}), storage).files] == ["journal.jsonl.gz"]
    with pytest.raises(ArtifactsNotFound, match="no artifacts of dag shop"):
        latest(storage.url, dag="shop")  # a state needs a manifest


def test_the_latest_is_of_a_run_that_succeeded(make_run: MakeRun, tmp_path: Path) -> None:
    storage = Storage(url=f"file://{tmp_path}/store")
    good = make_run()
    upload_again(good, storage)
    bad = make_run(outcome="failed")
    upload_again(bad, storage)
    assert latest(storage.url, dag="shop").contents.run_id == good.run_id
    assert latest(storage.url, dag="shop", outcome=None).contents.run_id == bad.run_id
    assert latest(storage.url, run=good.run_id).contents.run_id == good.run_id
    with pytest.raises(ArtifactsNotFound):
        latest(storage.url, dag="sho")


def test_what_has_changed_since_is_not_taken(make_run: MakeRun, tmp_path: Path) -> None:
    storage = Storage(url=f"file://{tmp_path}/store")
    upload_again(make_run(), storage)
    (path,) = (tmp_path / "store").rglob("manifest.json.gz")
    (tmp_path / "state").mkdir()
    for name in ("manifest.json", "mine.json"):
        (tmp_path / "state" / name).write_text("before")
    for spoil in (lambda data: data[:-9], lambda _data: MANIFEST.replace("m7", "m8").encode()):
        path.write_bytes(spoil(path.read_bytes()))
        with pytest.raises(UsageError, match=r"manifest\.json\.gz"):
            latest(storage.url).download(tmp_path / "state")
    assert (tmp_path / "state" / "manifest.json").read_text() == "before"
    upload_again(make_run(), storage)
    latest(storage.url).download(tmp_path / "state")
    assert (tmp_path / "state" / "manifest.json").read_text() != "before"
    assert (tmp_path / "state" / "mine.json").read_text() == "before"  # what is none of dbt's stays
    assert [file.name for file in tmp_path.glob(".state*")] == []


@pytest.mark.slow
def test_options_of_the_store_reach_it_and_nobody_else(make_run: MakeRun, moto: Cloud, tmp_path: Path) -> None:
    options = {"key": "canary-key-1", "secret": "canary-secret-2", "endpoint_url": moto.endpoint}
    run = make_run()
    url = f"{moto.url}/{ids.new_run_id()}"
    assert upload_again(run, Storage(url=url), options).error is None
    assert latest(url, storage_options=options).contents.run_id == run.run_id
    wrong = upload_again(run, Storage(url=url), {**options, "endpoint_url": "http://127.0.0.1:9/canary-secret-2"})
    assert wrong.error is None or "canary" not in wrong.error
    for path in (tmp_path / "home").rglob("*"):
        assert not path.is_file() or b"canary" not in path.read_bytes(), path


def test_without_a_place_nothing_is_stored(make_run: MakeRun) -> None:
    with pytest.raises(UsageError, match="pass `artifacts`"):
        upload_again(make_run())


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"URL": "bucket"}, "is not a URL such as"),
        ({"URL": "s3://u:pw@b"}, "leave out the password"),
        ({"URL": "az://b?sig=1"}, "leave out the password"),
        ({"URL": "s3://b", "KEY": "{dags}"}, r"unknown field \{dags\}"),
        ({"URL": "s3://b", "KEY": "../{run}"}, "leads outside the URL"),
        ({"URL": "s3://b", "KEY": "{"}, "artifacts.key"),
        ({"URL": "s3://b", "COMPRESSION": "lz4"}, r"artifacts\.compression: Invalid enum value 'lz4'"),
        ({"URL": "s3://b", "TIMEOUT": "soon"}, "is not a number of seconds"),
        ({"URL": "s3://b", "TIMEOUT": "-1"}, r"artifacts\.timeout"),
        ({"URL": "s3://b", "REDACTION": "sql=some"}, r"redaction\.sql"),
        ({"URL": "s3://b", "REDACTION": "sequel=keep"}, "unknown field `sequel`"),
    ],
)
def test_what_is_set_wrongly_is_said(variables: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        storage_of({f"SPANLINE_ARTIFACTS_{name}": value for name, value in variables.items()})


def test_every_field_has_a_variable() -> None:
    names = {
        "URL": "s3://b/p", "KEY": "{run}", "COMPRESSION": "zstd", "STORAGE_CLASS": "STANDARD_IA", "ENCRYPTION_KEY": "k",
        "ACL": "private", "REDACTION": "sql=drop meta_keys=a,b_*", "TIMEOUT": "7.5",
    }  # fmt: skip
    assert {name.lower() for name in names} == set(Storage.__struct_fields__)
    assert storage_of({f"SPANLINE_ARTIFACTS_{name}": value for name, value in names.items()}) == Storage(
        url="s3://b/p", key="{run}", compression="zstd", storage_class="STANDARD_IA", encryption_key="k", acl="private",
        redaction=Redaction(sql="drop", meta_keys=("a", "b_*")), timeout=7.5,
    )  # fmt: skip
    assert storage_of({}) is None
    assert storage_of({}, "file:///x") == Storage(url="file:///x")


@pytest.mark.slow
def test_a_manifest_of_half_a_gigabyte_is_stored(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    path = run.artifacts(1, 2, 1) / "manifest.json"
    code = json.dumps("select 1 as " + "x" * 50_000)
    with path.open("w") as file:
        file.write(
            '{"metadata": {"dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json"}, "nodes": {'
        )
        count = 0
        while file.tell() < 500 << 20:
            file.write(f'{"," if count else ""}"model.shop.n{count}": {{"name": "n{count}", "raw_code": {code}}}')
            count += 1
        file.write("}}")
    done = upload_again(run, Storage(url=f"file://{tmp_path}/store"))
    assert done.error is None
    (stored,) = [file for file in done.files if file.name == "manifest.json.gz"]
    assert stored.size > 490 << 20
    assert len(json.loads(latest(f"file://{tmp_path}/store").read("manifest.json"))["nodes"]) == count
