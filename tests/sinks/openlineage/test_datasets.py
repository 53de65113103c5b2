"""What is told of datasets, so that backends as they are show what is true: each rule is one that a user saw broken.

Marquez and DataHub are no part of these tests: they are rules of the stream of events. What the two made of events that
broke them is in docs/marquez.md and docs/datahub.md.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from spanline import events
from spanline.events import Column, Event, NodeDescribed, Relation
from spanline.sinks.openlineage import Options
from tests.support.lineage_events import (
    built,
    closed,
    compiled,
    described,
    end_of,
    finished,
    in_order,
    invoked,
    opened,
    resolved,
    resolver_started,
    session,
    started,
    starts,
    translated,
    with_columns,
)

A, B = "model.shop.a", "model.shop.b"
SOURCE = "source.shop.raw.orders"


def schema_of(dataset: dict) -> list[str] | None:
    facet = dataset["facets"].get("schema")
    return None if facet is None else [field["name"] for field in facet["fields"]]


def input_of(told: Sequence[dict], unique_id: str) -> dict:
    (dataset,) = end_of(told, unique_id)["inputs"]
    return dataset


def columns(*names: str) -> list[Column]:
    return [Column(name, "integer") for name in names]


# --- whose columns are told -----------------------------------------------------------------------------------------


def test_columns_of_an_input_are_told_only_where_all_are_known() -> None:
    """DataHub takes them for all: a table of six columns, of which one is documented, became a table of one."""
    documented = described(SOURCE, columns=columns("id"))
    reader = built(A, depends_on=[SOURCE])
    assert schema_of(input_of(translated(session(documented, *reader)), A)) is None
    for origin in ("catalog", "earlier", "warehouse"):
        known = resolved(SOURCE, "id", "amount", origin=origin)
        assert schema_of(input_of(translated(session(documented, known, *reader)), A)) == ["id", "amount"]


def test_columns_of_a_seed_are_those_of_its_header_for_who_reads_it() -> None:
    seed = described("seed.shop.s", columns=columns("id", "name"))
    told = translated(session(seed, *built(A, depends_on=[seed.unique_id])))
    assert schema_of(input_of(told, A)) == ["id", "name"]


def test_columns_of_what_this_run_has_made_are_told_by_who_made_it() -> None:
    for first in (built(A), built("seed.shop.s", columns=columns("id"))):
        known = resolved(first[0].unique_id, "old", origin="earlier")
        told = translated(session(known, *first, *built(B, depends_on=[first[0].unique_id])))
        assert schema_of(input_of(told, B)) is None


def test_a_source_that_is_a_seed_of_this_run_is_the_same_table() -> None:
    seed = built("seed.shop.s", columns=columns("id"))
    source = described(SOURCE, relation=seed[0].relation, columns=columns("id"))
    known = resolved(SOURCE, "id", "gone", origin="earlier")
    told = translated(session(source, known, *seed, *built(A, depends_on=[SOURCE])))
    assert schema_of(input_of(told, A)) is None


def test_sql_that_was_only_compiled_says_nothing_of_the_table_that_is_there() -> None:
    happened = [*built(A)[:-1], resolved(A, "new"), finished(A), *built(B, depends_on=[A])]
    for there, expected in (([], None), ([resolved(A, "old", origin="earlier")], ["old"])):
        told = translated(session(described(A), *there, *happened, command="compile"))
        assert schema_of(input_of(told, B)) == expected


def test_what_failed_to_be_made_is_as_it_was_before() -> None:
    known = resolved(A, "old", origin="earlier")
    happened = [described(A), known, started(A), resolved(A, "new"), finished(A, "error"), *built(B, depends_on=[A])]
    assert schema_of(input_of(translated(session(*happened)), B)) == ["old"]


def test_a_unit_test_reads_no_table() -> None:
    """Its model may not be there yet: a Marquez makes a version of it then, by nobody, and takes it for current."""
    unit = "unit_test.shop.a.adds_up"
    told = translated(session(described(A), *built(unit, None, "pass", depends_on=[A]), *built(A)))
    assert end_of(told, unit)["inputs"] == starts(told)[unit]["inputs"] == []


def test_the_sessions_end_names_what_all_of_it_has_read_and_written() -> None:
    """In a facet: as outputs they are versions of the session's to a Marquez, which hide what tests have said."""
    board = described("exposure.shop.board", depends_on=[A, "source.shop.raw.other"])
    sources = [described(SOURCE), described("source.shop.raw.other"), described("source.shop.raw.third")]
    broken = [described(B, depends_on=["source.shop.raw.third"]), started(B), finished(B, "error")]
    told = translated(session(board, *sources, *built(A, depends_on=[SOURCE]), *data_test("t", "pass"), *broken))
    facet = told[-1]["run"]["facets"]["spanline_session"]
    namespace = "duckdb://shop.duckdb"
    assert facet["reads"] == [{"namespace": namespace, "name": f"shop.main.{name}"} for name in ("orders", "third")]
    assert facet["writes"] == [{"namespace": namespace, "name": "shop.main.a"}]
    assert (facet["reads_count"], facet["writes_count"]) == (2, 1)
    assert "inputs" not in told[-1] or told[-1]["inputs"] == told[-1]["outputs"] == []


# --- assertions -----------------------------------------------------------------------------------------------------


def data_test(name: str, status: str, failures: int | None = None, **fields: object) -> list[Event]:
    unique_id = f"test.shop.{name}"
    info = events.TestInfo(name=name, kind="generic", attached_node=A, column="id")
    node = described(unique_id, test=info, depends_on=[A], **fields)
    return [node, started(unique_id), finished(unique_id, status, failures=failures)]


def said_by(told: Sequence[dict], name: str) -> dict[str, bool]:
    facet = input_of(told, f"test.shop.{name}").get("inputFacets", {}).get("dataQualityAssertions", {"assertions": []})
    return {one["name"]: one["success"] for one in facet["assertions"]}


def test_a_failed_test_is_not_hidden_by_the_next_that_passes() -> None:
    told = translated(session(*built(A), *data_test("one", "fail", 3), *data_test("two", "pass", 0)))
    assert said_by(told, "one") == {"one": False}
    assert said_by(told, "two") == {"one": False, "two": True}


def test_a_test_that_errored_says_nothing_of_the_data() -> None:
    """The specification asks for a success of every assertion, and there is none; the run's facet has a status."""
    told = translated(session(*built(A), *data_test("one", "pass", 0), *data_test("two", "error")))
    assert said_by(told, "two") == {"one": True}
    (execution,) = end_of(told, "test.shop.two")["run"]["facets"]["test"]["tests"]
    assert execution["status"] == "error"
    assert end_of(told, "test.shop.two")["eventType"] == "FAIL"


def test_what_a_test_says_in_a_second_attempt_goes_before_what_it_said_in_the_first() -> None:
    place = {"session": 1, "step": 1, "attempt": 2}
    again = [started("test.shop.one", **place), finished("test.shop.one", "pass", **place)]
    told = translated(session(*built(A), *data_test("one", "fail", 3), *data_test("two", "pass", 0), *again))
    last = [event for event in told if event["job"]["name"] == "test.shop.one"][-1]
    (facet,) = [dataset["inputFacets"]["dataQualityAssertions"] for dataset in last["inputs"]]
    assert {one["name"]: one["success"] for one in facet["assertions"]} == {"one": True, "two": True}


def test_what_was_said_of_a_table_does_not_outlast_it() -> None:
    """A table that is built anew is another version of the dataset, of which nothing has been said yet."""
    place = {"session": 1, "step": 2, "attempt": 1}
    anew = [started(A, **place), finished(A, **place), *data_test("two", "pass", 0)]
    told = translated(session(*built(A), *data_test("one", "fail", 3), *anew))
    assert said_by(told, "two") == {"two": True}


def test_what_is_told_last_of_a_dataset_is_the_last_by_its_time() -> None:
    """Threads of dbt may stamp their events in another order than that in which they write them."""
    one, two = data_test("one", "fail", 3), data_test("two", "pass", 0)
    happened = session(*built(A), *one[:2], *two[:2], one[2], two[2])
    place = happened.index(
        next(
            event
            for event in happened
            if getattr(event, "unique_id", "") == "test.shop.two" and isinstance(event, events.NodeFinished)
        )
    )
    early = happened[place - 1].time - 5_000
    happened[place] = events.NodeFinished(
        **{f: getattr(happened[place], f) for f in happened[place].__struct_fields__} | {"time": early}
    )
    told = translated(happened)
    moments = [end_of(told, f"test.shop.{name}")["eventTime"] for name in ("one", "two")]
    assert moments == sorted(set(moments))
    assert said_by(told, "two") == {"one": False, "two": True}


def test_freshness_is_told_beside_what_tests_have_said() -> None:
    info = events.TestInfo(name="t", kind="generic")
    test = [
        described("test.shop.t", test=info, depends_on=[SOURCE]),
        started("test.shop.t"),
        finished("test.shop.t", "fail", failures=1),
    ]
    place = {"session": 1, "step": 1, "attempt": 1}
    fresh = [
        started(SOURCE),
        events.FreshnessResult(
            unique_id=SOURCE, status="pass", age=5.0, max_loaded_at="2023-11-15T00:00:00+00:00", **place
        ),
        finished(SOURCE, "pass"),
    ]
    facets = input_of(translated(session(described(SOURCE), *test, *fresh)), SOURCE)["inputFacets"]
    assert {one["assertion"]: one["success"] for one in facets["dataQualityAssertions"]["assertions"]} == {
        "t": False,
        "freshness": True,
    }
    assert facets["dataQualityMetrics"]["lastUpdated"] == "2023-11-15T00:00:00+00:00"


def test_a_freshness_that_could_not_be_found_out_is_no_stale_source() -> None:
    place = {"session": 1, "step": 1, "attempt": 1}
    broken = [
        started(SOURCE),
        events.FreshnessResult(unique_id=SOURCE, status="runtime error", **place),
        finished(SOURCE, "runtime error"),
    ]
    assert input_of(translated(session(described(SOURCE), *broken)), SOURCE).get("inputFacets", {}) == {}


# --- SQL, and columns that are made of it ---------------------------------------------------------------------------


def wide(fields: int, characters: int) -> list[Event]:
    lineage = resolved(A, *(f"c{number} < x" for number in range(fields)))
    sql = "select 1".ljust(characters)
    return [described(A), started(A), compiled(A, sql), lineage, finished(A)]


@pytest.mark.parametrize(
    ("fields", "characters", "kept"),
    [(1, 200_000, 200_000), (20, 200_000, 200_000), (40, 200_000, 100_000), (65, 93_000, 61_538), (65, 60_000, 60_000)],
)
def test_sql_times_columns_is_at_most_four_megabytes(fields: int, characters: int, kept: int) -> None:
    """DataHub copies a job's SQL into each edge of its columns: 93 KB became 6.1 MB, more than its producer takes."""
    query = end_of(translated(session(*wide(fields, characters))), A)["job"]["facets"]["sql"]["query"]
    told, mark, _ = query.partition("\n… cut by spanline")
    assert len(told) == kept
    assert bool(mark) is (kept < characters)


# --- the case of names ----------------------------------------------------------------------------------------------


def on_snowflake(**options: object) -> list[dict]:
    """A seed, and a model over it with a column in quotes; the database in upper case, as many write it."""

    def place(name: str) -> Relation:
        return Relation(name, f"ANALYTICS.marts.{name}", "ANALYTICS", "marts")

    def node(unique_id: str, **fields: object) -> NodeDescribed:
        return described(unique_id, relation=place(unique_id.rpartition(".")[2]), **fields)

    test = events.TestInfo(name="t", kind="generic", attached_node=A, column="id")
    connection = {"account": "org-acc", "database": "ANALYTICS", "schema": "marts"}
    return translated(
        with_columns(
            in_order(
                opened(),
                invoked(adapter_type="snowflake", connection=connection),
                node("seed.shop.s", columns=[Column("id"), Column("Amount")]),
                [started("seed.shop.s"), finished("seed.shop.s")],
                [node(A, depends_on=["seed.shop.s"], columns=[Column("id", "number", "Which")]), started(A)],
                [compiled(A, 'select id, Amount as "myAmount" from ANALYTICS.marts.s'), finished(A)],
                [
                    described("test.shop.t", test=test, depends_on=[A]),
                    started("test.shop.t"),
                    finished("test.shop.t", "pass"),
                ],
                closed(),
            )
        ),
        **options,
    )


@pytest.mark.parametrize(
    ("case", "prefix", "seed", "model", "others"),
    [
        ("project", "ANALYTICS.marts", ["id", "amount"], ["id", "myAmount"], ["ANALYTICS.MARTS.A"]),
        ("warehouse", "ANALYTICS.MARTS", ["ID", "AMOUNT"], ["ID", "myAmount"], ["ANALYTICS.marts.a"]),
        ("lower", "analytics.marts", ["id", "amount"], ["id", "myamount"], ["ANALYTICS.marts.a", "ANALYTICS.MARTS.A"]),
    ],
)
def test_names_of_tables_and_columns_follow_one_case(
    case: str, prefix: str, seed: list[str], model: list[str], others: list[str]
) -> None:
    told = on_snowflake(case=case)
    upper = case == "warehouse"
    (made,) = end_of(told, "seed.shop.s")["outputs"]
    assert (made["name"], schema_of(made)) == (f"{prefix}.{'S' if upper else 's'}", seed)
    (dataset,) = end_of(told, A)["outputs"]
    assert (dataset["name"], schema_of(dataset)) == (f"{prefix}.{'A' if upper else 'a'}", model)
    assert [identifier["name"] for identifier in dataset["facets"]["symlinks"]["identifiers"]] == others
    lineage = dataset["facets"]["columnLineage"]["fields"]
    found = {name: [(one["name"], one["field"]) for one in field["inputFields"]] for name, field in lineage.items()}
    assert found == {new: [(made["name"], old)] for new, old in zip(model, seed, strict=True)}
    assert [given["name"] for given in end_of(told, A)["inputs"]] == [made["name"]]
    (assertion,) = input_of(told, "test.shop.t")["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert assertion["column"] == model[0]
    assert dataset["facets"]["schema"]["fields"][0]["description"] == "Which"


def test_where_nothing_is_folded_names_are_as_the_project_has_them() -> None:
    relation = Relation("Orders", '"Shop"."Main"."Orders"', "Shop", "Main")
    happened = session(described(A, relation=relation), started(A), resolved(A, "Id", "AMOUNT"), finished(A))
    for case, name, found in (
        ("project", "Shop.Main.Orders", ["Id", "AMOUNT"]),
        ("warehouse", "Shop.Main.Orders", ["Id", "AMOUNT"]),
        ("lower", "shop.main.orders", ["id", "amount"]),
    ):
        (dataset,) = end_of(translated(happened, case=case), A)["outputs"]
        assert (dataset["name"], schema_of(dataset)) == (name, found)


def test_what_sql_reads_that_is_no_node_is_in_that_case_too() -> None:
    happened = session(
        described(A), started(A), resolved(A, "id < X", datasets=["SHOP.OTHER.T"]), finished(A), described(B)
    )
    (dataset,) = end_of(translated(happened, case="lower"), A)["outputs"]
    (one,) = dataset["facets"]["columnLineage"]["fields"]["id"]["inputFields"]
    assert (one["name"], one["field"]) == ("shop.other.t", "x")


# --- what can be asked for ------------------------------------------------------------------------------------------


def test_the_environment_says_the_case_the_names_of_jobs_and_whether_exposures_are_told() -> None:
    assert Options.of_environment({}) == Options()
    environ = {
        "SPANLINE_LINEAGE_CASE": " Lower ",
        "SPANLINE_LINEAGE_JOB_NAMES": "short",
        "SPANLINE_LINEAGE_EXPOSURES": "off",
    }
    assert Options.of_environment(environ) == Options(case="lower", short_job_names=True, exposures=False)
    for name, said in (
        ("SPANLINE_LINEAGE_CASE", "project, warehouse or lower, not 'upper'"),
        ("SPANLINE_LINEAGE_JOB_NAMES", "dbt-ol or short, not 'upper'"),
    ):
        with pytest.raises(ValueError, match=f"{name} is {said}"):
            Options.of_environment({name: "upper"})


def test_short_names_of_jobs_begin_with_the_sessions() -> None:
    """Marquez puts the parent's name before a job's, but where that begins with it; DataHub cuts at the first dot."""
    exposure = described("exposure.shop.a", depends_on=[A])
    hook = "operation.shop.shop-on-run-end-0"
    place = {"session": 1, "step": 1, "attempt": 1}
    hooks = [
        events.HookStarted(unique_id=hook, **place),
        events.HookFinished(unique_id=hook, status="success", **place),
    ]
    happened = session(exposure, *built(A), *built(B, depends_on=[A]), *data_test("unique_a.1a2b", "pass"), *hooks)
    told = translated(happened, short_job_names=True)
    assert {event["job"]["name"] for event in told} == {
        "shop",
        "shop.a",
        "shop.b",
        "shop.test.unique_a.1a2b",
        "shop.operation.shop-on-run-end-0",
        "shop.exposure.a",
    }
    assert starts(told)["shop.b"]["run"]["facets"]["parent"]["job"]["name"] == "shop"
    (upstream,) = starts(told)["shop.b"]["run"]["facets"]["jobDependencies"]["upstream"]
    assert upstream["job"]["name"] == "shop.a"
    ids = [event["run"]["runId"] for event in told if "run" in event]
    assert ids == [event["run"]["runId"] for event in translated(happened) if "run" in event], "the same runs"


def test_exposures_are_not_told_where_they_may_not_be() -> None:
    happened = session(described("exposure.shop.board", depends_on=[A]), *built(A))
    assert [event for event in translated(happened) if "run" not in event]
    told = translated(happened, exposures=False)
    assert all("run" in event for event in told)
    assert "dbt_exposures" in json.dumps(told), "their dataset names them still"


def test_a_start_tells_an_output_as_its_end_does_or_not_at_all() -> None:
    """Two versions of it in one run are made by a Marquez else, of which either may become the current one."""
    life = [
        described(A, columns=columns("id")),
        started(A),
        compiled(A, "select 1 as id"),
        resolved(A, "id < id"),
        finished(A),
    ]
    for happened in (life, [*life[:3], life[4], life[3]], [*life[:3], life[4]], [life[0], life[1], life[4]]):
        for before in ([], [resolver_started()], [resolver_started(), resolved(A, "old", origin="earlier")]):
            told = [event for event in translated(session(*before, *happened)) if event.get("outputs") is not None]
            runs: dict[str, list[dict]] = {}
            for event in told[1:-1]:
                runs.setdefault(event["run"]["runId"], []).append(event)
            for start, end in runs.values():
                assert len(end["outputs"]) == 1
                assert start["outputs"] in ([], end["outputs"])
