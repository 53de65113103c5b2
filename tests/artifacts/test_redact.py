"""Nothing that is to be cut is stored, what is cut stays valid by dbt's own schema, and a report says what it was."""

from __future__ import annotations

import functools
import gzip
import json
import os
from pathlib import Path

import jsonschema
import pytest

from spanline.api.run import Run
from spanline.artifacts.known import values_of
from spanline.artifacts.redact import Cutter, Values
from spanline.artifacts.stage import Contents, stage
from spanline.errors import UsageError
from spanline.home.spec import RunSpec
from spanline.home.storage import Redaction, Storage
from spanline.journal.state import RunState
from tests.artifacts.conftest import CANARIES, SECRETS, VARIABLES

ALL = {**SECRETS, **VARIABLES}
RULES = [
    "",
    "sql=literals",
    "sql=drop",
    "columns=hash",
    "macros=drop",
    "meta_keys=pii_*,note",
    "profile=all vars=secret",
    "env_vars=CUSTOMER_*,DBT_ENV_CUSTOM_ENV_*",
]


def staged(run: Run, rules: str, environ: dict[str, str] | None = None) -> tuple[Contents, dict[str, str]]:
    """What is staged of a run by these rules, and the text of each file."""
    storage = Storage(url="file:///nowhere", redaction=Redaction.parse(rules)).check()
    contents = stage(run.directory, storage, {**os.environ, **(ALL if environ is None else environ)})
    texts = {
        name: gzip.decompress((run.directory.upload / file.key).read_bytes()).decode()
        for name, file in contents.files.items()
    }
    return contents, texts


@functools.cache
def schema_of_manifests() -> dict:
    from dbt.artifacts.schemas.manifest import WritableManifest

    return WritableManifest.json_schema()


def assert_valid(texts: dict[str, str], place: Path) -> None:
    """By dbt's own classes, and for the manifest by the JSON schema that dbt publishes of them."""
    from dbt.artifacts.schemas.catalog import CatalogArtifact
    from dbt.artifacts.schemas.manifest import WritableManifest
    from dbt.artifacts.schemas.run import RunResultsArtifact

    kinds = {"manifest.json": WritableManifest, "run_results.json": RunResultsArtifact, "catalog.json": CatalogArtifact}
    assert texts.keys() >= kinds.keys()
    for name, kind in kinds.items():
        (place / name).write_text(texts[name])
        kind.read_and_check_versions(str(place / name))
    for name, kind in list(kinds.items())[1:]:
        kind.validate(json.loads(texts[name]))
    manifest = json.loads(texts["manifest.json"])
    # dbt's own macros are four fifths of the time, and are cut whole or not at all.
    manifest["macros"] = {key: macro for key, macro in manifest["macros"].items() if macro["package_name"] == "shop"}
    jsonschema.Draft202012Validator(schema_of_manifests()).validate(manifest)


@pytest.mark.parametrize("rules", RULES)
def test_no_canary_is_stored_and_what_is_stays_valid(canary_run: Run, tmp_path: Path, rules: str) -> None:
    _, texts = staged(canary_run, rules)
    kept = {"canary-note-2", "canary-deep-4"} if "vars=secret" in rules else set()
    for name, text in texts.items():
        assert [canary for canary in CANARIES if canary not in kept and canary in text] == [], name
    assert_valid(texts, tmp_path)


def test_what_dbt_writes_itself_holds_the_canaries(canary_run: Run) -> None:
    """What the test above would find."""
    (folder,) = canary_run.directory.path.glob("artifacts/*")
    text = "".join(json.dumps(json.loads(file.read_text()), ensure_ascii=False) for file in folder.glob("*.json"))
    assert [canary for canary in CANARIES if canary not in text] == ["canary-env-secret-1"]  # dbt lets it nowhere


def test_an_artifact_that_lacks_something_is_noticed(canary_run: Run, tmp_path: Path) -> None:
    """What the check by dbt's schema would find."""
    _, texts = staged(canary_run, "")
    manifest = json.loads(texts["manifest.json"])
    manifest["nodes"]["model.shop.telling"]["raw_code"] = None
    with pytest.raises(jsonschema.ValidationError):
        assert_valid({**texts, "manifest.json": json.dumps(manifest)}, tmp_path)


def node(texts: dict[str, str], unique_id: str = "model.shop.telling") -> dict:
    return json.loads(texts["manifest.json"])["nodes"][unique_id]


def test_values_are_masked_where_they_are_rendered_and_counted(canary_run: Run) -> None:
    contents, texts = staged(canary_run, "")
    telling = node(texts)
    assert telling["config"]["meta"] == {
        "note": "*****", "token": "*****", "pii_owner": "Ada", "kept": {"pii_mail": "a@b.c"},
    }  # fmt: skip
    assert telling["description"] == "Of ***** and *****"
    assert "'*****' as note" in telling["compiled_code"]
    assert "'literal-of-sql' as origin, 4242 as answer" in telling["compiled_code"]
    assert "canary-customer-7" in telling["compiled_code"]  # nobody has said that it is secret
    run_results = json.loads(texts["run_results.json"])
    assert run_results["args"]["vars"] == {
        "note": "*****", "password": "*****", "nested": {"deep": ["*****"]}, "n": "*****",
    }  # fmt: skip
    assert run_results["args"]["invocation_command"].endswith("--vars *****")
    # note, token, in meta and config.meta each; description; compiled_code; profile's in raw_code and compiled_code
    assert contents.cut["manifest.json"]["env_vars"] >= 4
    assert contents.cut["manifest.json"]["profile"] == 2
    assert contents.cut["run_results.json"]["vars"] >= 5
    assert contents.cut_in_all["vars"] == sum(counts.get("vars", 0) for counts in contents.cut.values())


def test_the_log_is_of_this_run_alone(canary_run: Run) -> None:
    _, texts = staged(canary_run, "")
    invocations = {line.split()[3] for line in texts["dbt.log"].splitlines() if line.startswith("=====")}
    assert len(invocations) == 1  # `dbt docs generate` has logged to the same file
    assert "Command end result" in texts["dbt.log"] or "Completed successfully" in texts["dbt.log"]


def test_literals_are_masked_in_sql_and_its_text_is_left_out(canary_run: Run) -> None:
    contents, texts = staged(canary_run, "sql=literals")
    code = node(texts)["compiled_code"]
    assert "? as origin, ? as answer" in code
    assert 'from "shop"."main"."customers"' in code
    assert "literal-of-sql" not in "".join(texts.values())
    assert contents.left_out == {"dbt.log": "it holds SQL, which is to be cut, in its text"}


def test_sql_is_dropped(canary_run: Run) -> None:
    contents, texts = staged(canary_run, "sql=drop")
    assert node(texts)["compiled_code"] == node(texts)["raw_code"] == ""
    assert "literal-of-sql" not in "".join(texts.values())
    assert '"sql":""' in texts["journal.jsonl"]
    assert contents.cut["manifest.json"]["sql"] > 0


def test_column_names_are_hashed_everywhere(canary_run: Run) -> None:
    contents, texts = staged(canary_run, "columns=hash")
    telling = node(texts)
    hashed = set(telling["columns"])
    assert len(hashed) == 2
    assert all(telling["columns"][name]["name"] == name and name.startswith("c_") for name in hashed)
    catalog = json.loads(texts["catalog.json"])["nodes"]["model.shop.telling"]["columns"]
    assert hashed & catalog.keys()  # both artifacts hash the same way
    assert "secret_column" not in "".join(texts.values())
    assert "leaked" not in "".join(texts.values())  # in no documentation, but in SQL and the catalog
    assert set(contents.left_out) == {"dbt.log", "journal.jsonl"}
    manifest = json.loads(texts["manifest.json"])
    tests = [key for key, each in manifest["nodes"].items() if each["resource_type"] == "test"]
    assert any("not_null" in key for key in json.loads(plain_manifest(canary_run))["nodes"])
    assert not any("not_null" in key or "unique" in key for key in tests)
    # Whoever joins by ids still can.
    assert {key for key in tests if key.startswith("test.")} <= manifest["parent_map"].keys()
    results = {result["unique_id"] for result in json.loads(texts["run_results.json"])["results"]}
    assert results - {key for key in results if key.startswith("operation.")} <= manifest["nodes"].keys()
    assert telling["relation_name"] == '"shop"."main"."telling"'


def plain_manifest(run: Run) -> str:
    (path,) = run.directory.path.glob("artifacts/*/manifest.json")
    return path.read_text()


def test_keys_of_meta_are_dropped(canary_run: Run) -> None:
    contents, texts = staged(canary_run, "meta_keys=pii_*,note")
    assert node(texts)["config"]["meta"] == {"token": "*****", "kept": {}}
    assert contents.cut["manifest.json"]["meta_keys"] >= 3


def test_macros_are_dropped(canary_run: Run) -> None:
    contents, texts = staged(canary_run, "macros=drop")
    assert json.loads(texts["manifest.json"])["macros"] == {}
    assert contents.cut["manifest.json"]["macros"] == len(json.loads(plain_manifest(canary_run))["macros"])


def test_variables_are_cut_by_name(canary_run: Run) -> None:
    _, texts = staged(canary_run, "env_vars=CUSTOMER_*,DBT_ENV_CUSTOM_ENV_*")
    assert "canary-customer-7" not in "".join(texts.values())
    assert "canary-ticket-8" not in "".join(texts.values())
    assert "canary-ticket-8" in plain_manifest(canary_run)


def test_a_value_that_names_a_relation_stays_where_that_is_named(canary_run: Run, copy_project: object) -> None:
    """Or nothing could be deferred to: a variable may hold the name of a schema."""
    _, texts = staged(canary_run, "env_vars=A_NAME", {**ALL, "A_NAME": '"main"."telling"'})
    assert node(texts)["relation_name"] == '"shop"."main"."telling"'


def test_what_cannot_be_known_is_not_stored(canary_run: Run) -> None:
    without = {name: value for name, value in ALL.items() if name != "DBT_ENV_SECRET_KEY"}
    with pytest.raises(UsageError, match="set DBT_ENV_SECRET_KEY"):
        staged(canary_run, "", without)
    assert not canary_run.directory.upload.exists()


def test_entries_without_anything_to_cut_are_as_dbt_wrote_them(canary_run: Run) -> None:
    _, texts = staged(canary_run, "")
    before = json.loads(plain_manifest(canary_run))
    after = json.loads(texts["manifest.json"])
    assert before.keys() == after.keys()
    assert before["macros"] == after["macros"]
    assert before["nodes"]["model.shop.customers"] == after["nodes"]["model.shop.customers"]
    assert list(before["nodes"]) == list(after["nodes"])


# --- without a run ----------------------------------------------------------------------------------------------------


def cut(rules: str, values: Values, text: dict, name: str = "run_results.json") -> dict:
    cutter = Cutter(Redaction.parse(rules), values, "duckdb")
    return json.loads(b"".join(cutter.artifact(name, json.dumps(text).encode())))


def test_what_an_error_quotes_is_cut_as_sql_is() -> None:
    message = "Conversion Error: Could not convert string 'Ada' to INT32\nLINE 3: select 'Ada', 42 from \"shop\".t1"
    text = {"results": [{"unique_id": "model.a.b", "status": "error", "message": message}]}
    assert cut("sql=literals", Values(), text)["results"][0]["message"] == (
        'Conversion Error: Could not convert string ? to INT32\nLINE ?: select ?, ? from "shop".t1'
    )
    assert cut("sql=drop", Values(), text)["results"][0]["message"] == (
        "Conversion Error: Could not convert string ? to INT32"
    )
    assert cut("", Values(), text) == text


@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_secret_is_found_however_json_spells_it(*, ascii_only: bool) -> None:
    secret = 'p"ä\\ss\tw/örd'
    text = json.dumps({"nodes": {"a": {"meta": {"k": [f"<{secret}>"]}}}}, ensure_ascii=ascii_only).encode()
    cutter = Cutter(Redaction(), Values(secrets={"env_vars": [secret]}))
    assert json.loads(b"".join(cutter.artifact("manifest.json", text))) == {
        "nodes": {"a": {"meta": {"k": ["<*****>"]}}}
    }
    assert cutter.report["manifest.json"] == {"env_vars": 1}


def test_a_connection_is_cut_in_the_journal_but_not_where_relations_are() -> None:
    values = Values(others={"profile": ["db.example.com", "/data/shop.duckdb"]})
    event = {
        "type": "dbt_configured",
        "connection": {"host": "db.example.com", "path": "/data/shop.duckdb", "schema": "db.example.com"},
        "target_path": "/data/shop.duckdb",
    }
    cutter = Cutter(Redaction(), values)
    lines = [b"\n", json.dumps(event).encode() + b"\n", b'{"type": torn\n']
    (line,) = cutter.journal("journal.jsonl", lines)
    assert json.loads(line) == {
        **event, "connection": {"host": "*****", "path": "*****", "schema": "*****"},
    }  # fmt: skip


def test_the_profiles_secrets_are_known_by_their_names_and_variables(tmp_path: Path) -> None:
    (tmp_path / "profiles.yml").write_text(
        "p: {outputs: {a: {password: canary-1, user: ada-user, token: \"{{ env_var('TOKEN_OF_P', 'x') }}\"},"
        " b: {secrets: [{key_id: k, secret: canary-3}]}}}"
    )
    spec = RunSpec(run_id="r", steps=[["build", "--profiles-dir", str(tmp_path)]], cwd="/", project_dir="/", python="")
    values = values_of(spec, RunState(), {"TOKEN_OF_P": "canary-2"}, [])
    assert set(values.secrets["profile"]) >= {"canary-1", "canary-2", "canary-3"}
    assert not {"ada-user", "k"} & set(values.secrets["profile"])


def test_short_words_and_numbers_are_cut_of_the_arguments_and_nowhere_else() -> None:
    spec = RunSpec(
        run_id="r", steps=[["build", "--vars", "{env: production, n: 12345678, id: a1b2c3}"]], cwd="/", project_dir="/",
        python="",
    )  # fmt: skip
    values = values_of(spec, RunState(), {}, [])
    assert values.others["vars"] == ["a1b2c3"]
    said = {"env": "production", "n": 12345678, "token": "abc"}
    text = {"args": {"vars": said}, "results": [{"message": "production 12345678 a1b2c3 abc"}]}
    assert cut("", values, text) == {
        "args": {"vars": {"env": "*****", "n": "*****", "token": "*****"}},
        "results": [{"message": "production 12345678 ***** abc"}],
    }
    assert cut("vars=secret", Values(), text) == {**text, "args": {"vars": {**said, "token": "*****"}}}
