"""What errors are: real ones of every warehouse, ones that look transient and aren't, and each rule by itself."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
import textwrap
import threading
import time
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import spanline
from spanline.errors import UsageError
from spanline.failures import matching
from spanline.failures.classify import HEAD, TAIL, Failure, classify, classify_by, failure_of
from spanline.failures.matching import Matcher, RuleSet
from spanline.runner.shared import settings
from tests.support.examples import examples
from tests.support.project import SPANLINE, Project

ROOT = Path(__file__).parents[2]
SEEN = yaml.load((Path(__file__).with_name("error_messages.yml")).read_text(), Loader=yaml.CSafeLoader)
BIG_FIVE = ("snowflake", "bigquery", "databricks", "redshift", "postgres")
OTHERS = ("duckdb", "trino", "athena", "clickhouse", "sqlserver", "dremio")
ADAPTER_OF = {"network": "vertica", "dbt": "duckdb", "sql": "mysql"}
"""By which adapter's eyes messages are seen that are nobody's own."""
FILES = tuple(map(matching.builtin, matching.names()))
RULES = [(each, matcher) for each in FILES for matcher in each.rules]
EVERY_ADAPTER = sorted({adapter for each in FILES for adapter in each.adapters})
REAL = [(adapter, *seen[:3]) for adapter, all_seen in SEEN["messages"].items() for seen in all_seen]
QUOTED = [(adapter, *seen[1:]) for adapter, all_seen in SEEN["messages"].items() for seen in all_seen if len(seen) > 3]
PERMANENT = [(adapter, message) for adapter, message in SEEN["permanent"]]


@pytest.fixture(autouse=True)
def _no_rules_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(settings.RULES, raising=False)
    monkeypatch.chdir(tmp_path)


# --- messages


@pytest.mark.parametrize(("adapter", "category", "lasting", "message"), REAL)
def test_a_real_message_is_what_it_is(adapter: str, category: str, lasting: str, message: str) -> None:
    found = classify(message, ADAPTER_OF.get(adapter, adapter))
    assert (found.category, found.transient) == (category, lasting == "transient"), found
    if lasting == "permanent":
        assert not classify(message).transient, "nor without its adapter"


def test_there_are_enough_of_them() -> None:
    assert all(len(SEEN["messages"][adapter]) >= 15 for adapter in BIG_FIVE)
    assert all(len(SEEN["messages"][adapter]) >= 8 for adapter in OTHERS)
    assert len(PERMANENT) >= 60
    assert len({message for _, _, _, message in REAL}) == len(REAL)


@pytest.mark.parametrize("adapter", BIG_FIVE)
def test_enough_of_them_are_quoted_from_where_they_stand(adapter: str) -> None:
    quoted = [(lasting, source) for of, lasting, _, source in QUOTED if of == adapter]
    assert len(quoted) >= 15
    assert {lasting for lasting, _ in quoted} == {"transient", "permanent"}
    assert sum(source in SEEN["documents"] for _, source in quoted) >= 5
    assert all(re.fullmatch(r"https://\S+", source) for _, source in quoted)


def test_every_document_is_quoted_and_the_documentation_counts_what_is() -> None:
    assert set(SEEN["documents"]) <= {source for _, _, _, source in QUOTED}
    text = (ROOT / "docs" / "errors.md").read_text()
    for adapter in (*BIG_FIVE, *OTHERS):
        all_seen = SEEN["messages"][adapter]
        sources = [seen[3] for seen in all_seen if len(seen) > 3]
        documented = sum(source in SEEN["documents"] for source in sources)
        row = f"| {adapter} | {documented} | {len(sources) - documented} | {len(all_seen) - len(sources)} |"
        assert row in text.splitlines()


@pytest.mark.parametrize(("adapter", "message"), PERMANENT)
def test_what_only_sounds_transient_is_not(adapter: str, message: str) -> None:
    assert not classify(message, adapter).transient
    assert not classify(message).transient
    assert [other for other in EVERY_ADAPTER if classify(message, other).transient] == []


@pytest.mark.parametrize("kind", ["Database Error", "Runtime Error"])
@pytest.mark.parametrize(("adapter", "category", "lasting", "message"), REAL)
def test_what_dbt_says_around_it_changes_nothing(
    adapter: str, category: str, lasting: str, message: str, kind: str
) -> None:
    del category
    if not message.strip():
        return
    inner = textwrap.indent(message, "  ")
    wrapped = f"""12:30:01  Encountered an error:
{kind} in model connection_timeouts (models/deadlock detected/connection reset by peer.sql)
{inner}
  compiled code at target/run/shop/models/503_service_unavailable.sql"""
    found, wrapped_too = (classify(text, ADAPTER_OF.get(adapter, adapter)) for text in (message, wrapped))
    assert wrapped_too == found, lasting


@given(st.text(max_size=300), st.sampled_from([None, *EVERY_ADAPTER]))
def test_no_text_is_refused(message: str, adapter: str | None) -> None:
    found = classify(message, adapter)
    assert found.category in typing.get_args(matching.Category)
    assert not found.transient or found.rule


@given(st.lists(st.sampled_from(["connection", "timeout", "lock", "deadlock", "retry", "503", "reset", "select", "'"])))
def test_words_alone_are_not_an_error(words: list[str]) -> None:
    message = "it said: " + " ".join(words)
    assert [a for a in (None, *EVERY_ADAPTER) if classify(message, a).transient] == []


def test_a_text_without_a_rule_is_unknown() -> None:
    assert classify("the moon is in the wrong place", "postgres") == Failure("unknown", transient=False, rule=None)


@pytest.mark.parametrize(
    ("exception", "expected"),
    [
        ("psycopg2.errors.DeadlockDetected", ("concurrency", True)),
        ("psycopg2.errors.UniqueViolation", ("data", False)),
        ("ConnectionResetError", ("connection", True)),
        ("requests.exceptions.ReadTimeout", ("timeout", True)),
        ("ssl.SSLCertVerificationError", ("connection", False)),
        ("KeyboardInterrupt", ("cancelled", False)),
        ("DbtProfileError", ("profile", False)),
        ("DbtDatabaseError", ("unknown", False)),
        (None, ("unknown", False)),
    ],
)
def test_the_exception_counts_where_the_text_says_nothing(exception: str | None, expected: tuple[str, bool]) -> None:
    found = classify("?", "postgres", exception)
    assert (found.category, found.transient) == expected
    assert classify("syntax error at or near x", "postgres", exception).category == "syntax"


def test_an_exception_written_before_its_text_counts_too() -> None:
    assert classify("psycopg2.errors.DeadlockDetected: ?", "postgres").rule == "postgres.deadlock"
    assert classify("KeyboardInterrupt: ", "postgres").category == "cancelled"


# --- rules


@pytest.mark.parametrize(("file", "matcher"), RULES, ids=lambda value: value.rule.id if hasattr(value, "rule") else "")
def test_a_rule_is_the_first_to_know_its_example(file: RuleSet, matcher: Matcher) -> None:
    rule = matcher.rule
    adapter = file.adapters[0] if file.adapters else ADAPTER_OF[file.name]
    assert rule.example is not None
    assert classify(rule.example, adapter) == Failure(rule.category, rule.transient, rule.id)
    assert not classify(rule.example).transient or rule.transient
    assert rule.id.startswith(f"{file.name}.")
    assert rule.source is not None
    assert re.fullmatch(r"https://\S+", rule.source)
    assert not rule.changes_another


def test_no_transient_rule_knows_the_example_of_a_permanent_one() -> None:
    """Not even a later one: that the order decides must be meant."""
    meant = {
        ("databricks.raised", "databricks.concurrent_write"),  # a person's words may look like anything
        ("databricks.python_model", "databricks.unavailable"),
        ("sqlserver.raised", "sqlserver.unavailable"),
        ("sqlserver.certificate", "sqlserver.unavailable"),  # one SQLSTATE for them all
        ("sqlserver.unknown_host", "sqlserver.unavailable"),
    }
    found = set()
    for file, matcher in RULES:
        for other in file.rules:
            if other.rule.transient and not matcher.rule.transient and _knows(file, other, matcher.rule.example or ""):
                found.add((matcher.rule.id, other.rule.id))
    assert found == meant


def _knows(file: RuleSet, matcher: Matcher, example: str) -> bool:
    """Whether a rule knows an example, asked alone and first."""
    alone = dataclasses.replace(file, rules=(matcher,))
    return classify_by(alone, example, next(iter(matcher.rule.adapters), None)).rule == matcher.rule.id


def test_rules_are_named_once_and_adapters_have_one_file() -> None:
    ids = [matcher.rule.id for _, matcher in RULES]
    assert len(set(ids)) == len(ids)
    adapters = [adapter for file in FILES for adapter in file.adapters]
    assert len(set(adapters)) == len(adapters)
    for file in FILES:
        assert all(matching.of_adapter(adapter)[0] == file for adapter in file.adapters)


def test_every_category_has_a_rule() -> None:
    assert {matcher.rule.category for _, matcher in RULES} == set(typing.get_args(matching.Category))


# --- bounds


def _thread_seconds(what: Callable[[], object], rounds: int = 3) -> float:
    def once() -> float:
        began = time.thread_time()
        what()
        return time.thread_time() - began

    return min(once() for _ in range(rounds))


PATTERNS = [
    (f"{file.name}: {pattern.pattern}", pattern)
    for file in FILES
    for pattern in [*file.codes, *file.unwrap, *file.ignore, *(m.regex for m in file.rules if m.regex is not None)]
]


def _pieces(pattern: re.Pattern[str]) -> list[str]:
    """What a pattern looks for, so that texts of it lead it as far astray as can be."""
    literal = re.sub(r"\\[a-zA-Z]|\{\d*,?\d*\}|[\[\](){}?*+^$.\\]", "|", pattern.pattern)
    return [piece for piece in literal.split("|") if piece] or ["x"]


@examples(60)
@given(data=st.data())
def test_no_pattern_searches_without_end(data: st.DataObject) -> None:
    name, pattern = data.draw(st.sampled_from(PATTERNS))
    piece = st.sampled_from([*_pieces(pattern), " ", "\n", "'", '"', "(", "a", "1", "_", "A" * 40])
    part = "".join(data.draw(st.lists(piece, min_size=1, max_size=6)))
    text = ("\n" + part * (HEAD + TAIL))[: HEAD + TAIL]
    assert _thread_seconds(lambda: pattern.sub("", text)) < 0.05, name


@pytest.mark.parametrize("adapter", [None, *BIG_FIVE, *OTHERS])
@pytest.mark.parametrize(
    "message",
    [
        pytest.param("x" * 1_000_000, id="a line"),
        pytest.param("select 'connection reset' from t\n" * 30_000, id="SQL"),
        pytest.param("Database Error in model x (y.sql)\n  " + "a b c('d') " * 100_000, id="dbt"),
        pytest.param("Runtime Error " * 70_000, id="heads"),
        pytest.param("java.net.SocketException: x\n\tat a.b.C(D.java:1)\n" * 20_000, id="Java"),
        pytest.param("'" * 1_000_000, id="quotes"),
        pytest.param("\n" * 1_000_000, id="lines"),
    ],
)
def test_a_message_of_a_megabyte_takes_less_than_10_ms(message: str, adapter: str | None) -> None:
    classify("x", adapter)
    assert _thread_seconds(lambda: classify(message, adapter), rounds=5) < 0.010


def test_of_a_long_message_the_beginning_and_the_last_lines_count() -> None:
    filler = "select 1 as one\n" * 10_000
    assert classify("deadlock detected\n" + filler, "postgres").rule == "postgres.deadlock"
    assert classify(filler + "ConnectionResetError: [Errno 104] Connection reset by peer", "postgres").transient
    one_line = "x" * 100_000 + " [Errno 104] Connection reset by peer"
    assert not classify(one_line, "postgres").transient, "half a line is no line"


def test_importing_spanline_reads_no_rules() -> None:
    code = "import sys, spanline.failures.classify, spanline.cli.main; print(sorted({'yaml'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    code = "import sys, spanline; print('spanline.failures.matching' in sys.modules); "
    code += "print(spanline.classify('x').category)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "unknown"]


def test_a_pattern_is_made_when_it_is_searched_for() -> None:
    """Most of the time that the first `classify` of a process takes would go to those of rules that nobody asks."""
    fresh = matching.load(Path(matching.__file__).parent / "rules" / "postgres.yml")
    assert not any("regex" in vars(matcher) for matcher in fresh.rules)
    assert all(matcher.regex for matcher in fresh.rules if matcher.rule.pattern)


def test_it_is_part_of_the_public_api() -> None:
    assert spanline.classify is classify
    assert spanline.Failure is Failure
    with pytest.raises(AttributeError):
        Failure("data").category = "syntax"  # type: ignore[misc]


# --- rules of one's own


OURS = """
adapters: [snowflake]
rules:
  - {id: ours.gateway, category: connection, transient: true, pattern: '^Our gateway is restarting'}
  - {id: ours.procedure, category: data, codes: ['100183']}
  - {id: ours.driver, category: throttled, transient: true, exceptions: [TooBusy]}
  - {id: ours.everywhere, adapters: [trino], category: cancelled, pattern: 'went fishing'}
  - {id: snowflake.statement_timeout, category: timeout, transient: true}
"""


@pytest.mark.parametrize("named", [True, False])
def test_rules_of_ones_own_come_first(named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ("mine.yaml" if named else ".spanline-rules.yml")).write_text(OURS)
    if named:
        monkeypatch.setenv("SPANLINE_RULES", str(tmp_path / "mine.yaml"))
    restarting = "Database Error in model x (x.sql)\n  Our gateway is restarting"
    assert classify(restarting, "snowflake") == Failure("connection", True, "ours.gateway")
    assert classify(restarting, "trino").rule is None
    assert classify("100183 (P0000): no", "snowflake").rule == "ours.procedure"
    assert classify("?", "snowflake", "drivers.TooBusy").rule == "ours.driver"
    assert classify("he went fishing", "trino").rule == "ours.everywhere"
    timed_out = "000630 (57014): Statement reached its statement or warehouse timeout of 9 second(s) and was canceled."
    assert classify(timed_out, "snowflake") == Failure("timeout", True, "snowflake.statement_timeout")


def test_a_changed_file_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rules.yml"
    monkeypatch.setenv("SPANLINE_RULES", str(file))
    for category in ("data", "resource"):
        file.write_text(f"rules: [{{id: ours.x, category: {category}, pattern: 'so it is'}}]")
        assert classify("so it is").category == category
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("rules: [", "not YAML: "),
        ("just text", "Expected `object`, got `str`"),
        ("rule: []", "unknown field `rule`"),
        ("rules: [nothing]", "rule number 1: Expected `object`, got `str`"),
        ("rules: [{id: ours.x, category: conection, pattern: a}]", "rule ours.x: Invalid enum value 'conection'"),
        ("rules: [{id: ours.x, pattern: a}]", "rule ours.x: Object missing required field `category`"),
        ("rules: [{id: ours.x, category: data, patern: a}]", "rule ours.x: Object contains unknown field `patern`"),
        ("rules: [{id: ours.x, category: data, codes: [7]}]", "rule ours.x: Expected `str`, got `int`"),
        (
            "rules: [{id: ours.x, category: data, pattern: '(a'}]",
            "rule ours.x: pattern '(a' is not a regular",
        ),
        ("rules: [{id: ours.x, category: data, pattern: '(a+)+b'}]", "rule ours.x: pattern '(a+)+b' has a quantifier"),
        ("ignore: ['(?:a*)*']", "ignore '(?:a*)*' has a quantifier inside a quantified group"),
        ("rules: [{id: ours.x, category: data}]", "rule ours.x: it has neither pattern, codes nor exceptions"),
        (
            "rules: [{id: ours.x, category: data, pattern: a}, {id: ours.x, category: data, pattern: b}]",
            "rule ours.x: two rules have this id",
        ),
    ],
)
def test_a_broken_file_is_named_with_the_rule_and_what_is_wrong(
    content: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "broken.yml"
    file.write_text(content)
    monkeypatch.setenv("SPANLINE_RULES", str(file))
    with pytest.raises(UsageError) as raised:
        classify("x")
    assert str(raised.value).startswith(f"{file}: ")
    assert expected in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPANLINE_RULES", "nowhere.yml")
    with pytest.raises(UsageError, match=r"nowhere.yml: No such file or directory; SPANLINE_RULES must name"):
        classify("x")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Install a package that brings rules, with this for its entry point's object."""
    matching.of_packages.cache_clear()

    def install(source: str) -> None:
        (tmp_path / "their_package.py").write_text(source)
        info = tmp_path / "their_package-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1\n")
        (info / "entry_points.txt").write_text("[spanline.rules]\ntheirs = their_package:RULES\n")
        monkeypatch.syspath_prepend(str(tmp_path))

    yield install
    sys.modules.pop("their_package", None)
    matching.of_packages.cache_clear()


@pytest.mark.parametrize("written", ["RULES = FILE", "def RULES(): return str(FILE)"])
def test_a_package_brings_rules(written: str, package: Callable[[str], None], tmp_path: Path) -> None:
    (tmp_path / "theirs.yml").write_text("rules: [{id: theirs.x, category: resource, pattern: 'no beer left'}]")
    package(f"from pathlib import Path\nFILE = Path({str(tmp_path / 'theirs.yml')!r})\n{written}\n")
    assert classify("there is no beer left").rule == "theirs.x"


def test_a_broken_package_is_named(package: Callable[[str], None]) -> None:
    package("NOTHING = 1")
    with pytest.raises(UsageError, match=r"entry point theirs of spanline.rules: AttributeError: .*RULES"):
        classify("x")


# --- the command, and the documentation


def _command(*args: str, said: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SPANLINE, *args], input=said, capture_output=True, text=True, check=False)


def test_the_command_prints_json() -> None:
    done = _command("classify", "--adapter", "postgres", "deadlock detected")
    assert done.stdout == '{"category":"concurrency","transient":true,"rule":"postgres.deadlock"}\n'
    piped = _command("classify", "--adapter", "duckdb", said='Parser Error: syntax error at or near "frm"\n')
    assert json.loads(piped.stdout) == {"category": "syntax", "transient": False, "rule": "duckdb.syntax"}
    assert json.loads(_command("classify", "?").stdout) == {"category": "unknown", "transient": False, "rule": None}


@pytest.mark.parametrize("name", ["postgres", "postgresql", "PostgreSQL", "aurora-postgres"])
def test_an_adapter_may_be_called_by_another_name(name: str) -> None:
    done = _command("classify", "--adapter", name, "deadlock detected")
    assert json.loads(done.stdout)["rule"] == "postgres.deadlock"
    assert done.stderr == ""


def test_aliases_are_of_adapters_and_none_of_them() -> None:
    assert set(matching.ALIASES.values()) <= set(EVERY_ADAPTER)
    assert set(matching.ALIASES) & set(EVERY_ADAPTER) == set()
    assert list(map(matching.dbts_name, EVERY_ADAPTER)) == EVERY_ADAPTER


def test_an_adapter_without_rules_is_warned_of_and_every_rule_asked(tmp_path: Path) -> None:
    done = _command("classify", "--adapter", "nosuch", "deadlock detected")
    assert (done.returncode, done.stdout) == (0, _command("classify", "deadlock detected").stdout)
    assert json.loads(done.stdout)["category"] == "concurrency"
    begins = "spanline: no rules for nosuch: all are asked; there are some for alloydb, athena, "
    assert done.stderr.startswith(begins)
    assert done.stderr.count("\n") == 1
    (tmp_path / ".spanline-rules.yml").write_text(OURS.replace("[trino]", "[NoSuch]"))
    own = _command("classify", "--adapter", "nosuch", "he went fishing")
    assert (json.loads(own.stdout)["rule"], own.stderr) == ("ours.everywhere", "")


def test_the_command_says_what_is_wrong_with_a_file_in_one_line(tmp_path: Path) -> None:
    (tmp_path / ".spanline-rules.yml").write_text("rules: [{id: ours.gateway, category: conection, pattern: a}]")
    done = _command("classify", "x")
    assert done.returncode == 2
    wrong = "/.spanline-rules.yml: rule ours.gateway: Invalid enum value 'conection' - at `$.category`\n"
    assert done.stderr == f"spanline: {tmp_path}{wrong}"
    assert wrong in (ROOT / "docs" / "errors.md").read_text()


def test_the_documentation_names_every_category_and_its_example_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs" / "errors.md").read_text()
    for category in typing.get_args(matching.Category):
        assert re.search(rf"^\| `{category}` \| .* \| .* \| `Dbt\w+` \|$", text, re.M), category
    (example,) = re.findall(r"```yaml\n(.*?)```", text, re.S)
    (tmp_path / "example.yml").write_text(example)
    monkeypatch.setenv("SPANLINE_RULES", str(tmp_path / "example.yml"))
    assert classify("Our gateway is restarting, wait", "snowflake").rule == "ours.gateway"
    (command,) = re.findall(r'spanline classify --adapter (\w+) "(.*)"\n(\{.*\})\n', text)
    assert json.loads(command[2]) == {"category": "syntax", "transient": False, "rule": "snowflake.syntax"}
    assert classify(command[1], command[0]).rule == "snowflake.syntax"


# --- engines that are here


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("selec 1", ("syntax", False)),
        ("select * from connection_timeouts", ("not_found", False)),
        ("select deadlock from (select 1 as x)", ("not_found", False)),
        ("select cast('Connection reset by peer' as int)", ("data", False)),
        ("select error('TransactionContext Error: Conflict on update!')", ("unknown", False)),
        (
            "set memory_limit='9M'; create table t as select repeat('x', 999) || i s from range(9999) r(i) order by s",
            ("resource", False),
        ),
        ("create table t(i int primary key); insert into t values (1), (1)", ("data", False)),
        ("attach '/nowhere/x.duckdb'", ("profile", False)),
        ("copy (select 1) to '/nowhere/x.csv'", ("not_found", False)),
    ],
)
def test_errors_of_a_real_duckdb(sql: str, expected: tuple[str, bool]) -> None:
    duckdb = pytest.importorskip("duckdb")
    with pytest.raises(duckdb.Error) as raised:
        duckdb.connect().execute(sql).fetchall()
    found = classify(str(raised.value), "duckdb", type(raised.value).__name__)
    assert (found.category, found.transient) == expected, raised.value


def test_a_file_that_a_real_duckdb_cannot_make_sense_of_is_bad_data(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    for name, text in {
        "uneven.csv": "a,b\n1,2\n3,4,5,6\n7\n",
        "empty.csv": "",
        "no.parquet": "connection reset\n",
    }.items():
        (tmp_path / name).write_text(text)
        reading = "read_parquet('{}')" if name == "no.parquet" else "read_csv('{}', columns={{'a': 'INT', 'b': 'INT'}})"
        with pytest.raises(duckdb.Error) as raised:
            duckdb.connect().execute(f"select * from {reading.format(tmp_path / name)}").fetchall()
        assert classify(str(raised.value), "duckdb") == Failure("data", False, "duckdb.bad_value"), raised.value


def test_a_conflict_in_a_real_duckdb() -> None:
    duckdb = pytest.importorskip("duckdb")
    first = duckdb.connect()
    first.execute("create table t(i int, j int); insert into t values (1, 1)")
    second = first.cursor()
    first.execute("begin; update t set j = 2")
    second.execute("begin")
    with pytest.raises(duckdb.Error) as raised:
        second.execute("update t set j = 3")
    assert classify(str(raised.value), "duckdb").rule == "duckdb.conflict"


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    pgserver = pytest.importorskip("pgserver")
    psycopg2 = pytest.importorskip("psycopg2")
    server = pgserver.get_server(tmp_path_factory.mktemp("pg"), cleanup_mode="stop")
    yield lambda **options: psycopg2.connect(server.get_uri(), **options)
    server.cleanup()


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("selec 1", ("syntax", False)),
        ("select * from connection_timeouts", ("not_found", False)),
        ("select 1 where 'deadlock detected' = 1", ("data", False)),
        ("select 1 / 0", ("data", False)),
        ("set statement_timeout = '20ms'; select pg_sleep(9)", ("timeout", False)),
        ("do $$begin raise exception 'deadlock detected'; end$$", ("data", False)),
        (
            "set temp_file_limit = 0; set work_mem = 64; select i from generate_series(1, 99999) x(i) order by i desc",
            ("resource", False),
        ),
    ],
)
def test_errors_of_a_real_postgres(postgres: Callable[..., Any], sql: str, expected: tuple[str, bool]) -> None:
    connection = postgres()
    with pytest.raises(Exception) as raised, connection.cursor() as cursor:  # noqa: PT011 - psycopg2's, whatever it is
        cursor.execute(sql)
    connection.close()
    found = classify(str(raised.value), "postgres")
    assert (found.category, found.transient) == expected, raised.value
    by_class = classify("?", "postgres", type(raised.value).__name__)
    assert by_class.category in (expected[0], "cancelled"), "a time-out is a cancel to psycopg2"


@pytest.mark.postgres
def test_locks_and_lost_connections_of_a_real_postgres(postgres: Callable[..., Any]) -> None:
    first, second, third = postgres(), postgres(), postgres()
    third.autocommit = True
    cursors = [connection.cursor() for connection in (first, second, third)]
    cursors[2].execute("create table t(i int primary key); insert into t values (1), (2)")
    cursors[0].execute("update t set i = i where i = 1")
    cursors[1].execute("update t set i = i where i = 2")
    said: list[str] = []

    def crossing(number: int, row: int) -> None:
        try:
            cursors[number].execute(f"update t set i = i where i = {row}")
        except Exception as error:  # noqa: BLE001
            said.append(str(error))

    other = threading.Thread(target=crossing, args=(0, 2))
    other.start()
    crossing(1, 1)
    other.join()
    cursors[2].execute("select pg_terminate_backend(%s)", (first.get_backend_pid(),))
    time.sleep(0.2)
    crossing(0, 1)
    crossing(0, 1)
    assert [classify(each, "postgres").rule for each in said] == [
        "postgres.deadlock",
        "postgres.closed",
        "postgres.closed",
    ]
    with pytest.raises(Exception, match="does not exist") as raised:
        postgres(dbname="connection_refused")
    assert classify(str(raised.value), "postgres").rule == "postgres.not_found"


def test_rules_that_cannot_be_read_are_said_before_a_run_begins(project: Project) -> None:
    project.write("rules.yml", "rules: [{id: 7}]")
    done = project.spanline("dbt", "run", "-s", "customers", SPANLINE_RULES="rules.yml")
    assert done.returncode == 2
    assert b"rules.yml" in done.stderr
    assert not (project.home / "runs").exists()


def test_who_only_tells_of_a_run_goes_on_without_rules_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPANLINE_RULES", str(tmp_path / "nothing.yml"))
    with pytest.raises(UsageError):
        classify("deadlock detected", "postgres")
    assert failure_of("deadlock detected", "postgres").rule == "postgres.deadlock"
