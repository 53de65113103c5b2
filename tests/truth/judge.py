"""Holds the analysis against what the databases have said."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from spanline.lineage.columns import Analysis, Schema, analyse
from tests.truth.answers import Answer

SLOW = 1.0


class Verdict(NamedTuple):
    """`right`, `open` or `lie`, with what is wrong; and the influences that were seen and that weren't told."""

    kind: str
    why: str
    seen: int
    missed: tuple[str, ...]
    seconds: float


class Totals(msgspec.Struct):
    """The row of a corpus in the table."""

    kinds: Counter[str]
    seen: int = 0
    missed: int = 0
    slow: int = 0
    raised: int = 0


def judged(answers: Iterable[Answer]) -> Iterator[tuple[Answer, Verdict]]:
    """Each answer with what is to be said of the analysis of its query; a query that comes again isn't judged again."""
    met = set()
    for answer in answers:
        key = (answer.sql, answer.names, answer.tables)
        if key not in met:
            met.add(key)
            yield answer, _verdict(answer)


def _verdict(answer: Answer) -> Verdict:
    schema = Schema(answer.dialect)
    for table in answer.tables:
        schema.add(table.relation, table.columns)
    before = time.perf_counter()
    found = analyse(answer.sql, answer.dialect, schema)
    seconds = time.perf_counter() - before
    missed = tuple(_missed(answer, found)) if found.error is None else ()
    seen = sum(len(each.places) for each in answer.influences) if found.error is None else 0
    if not found.complete:
        return Verdict("open", found.error or "; ".join(found.gaps), seen, missed, seconds)
    names = tuple(column.name for column in found.columns)
    if names != answer.names:
        return Verdict("lie", f"names {names}, not {answer.names}", seen, missed, seconds)
    phantoms = sorted(_phantoms(answer, found))
    if phantoms:
        return Verdict("lie", f"no such column: {', '.join(phantoms)}", seen, missed, seconds)
    return Verdict("right", "", seen, missed, seconds)


def _phantoms(answer: Answer, found: Analysis) -> set[str]:
    """Columns that known relations don't have."""
    known = {table.relation: {name for name, _ in table.columns} for table in answer.tables}
    inputs = [*found.dataset, *(each for column in found.columns for each in column.inputs)]
    return {
        f"{each.field.relation[-1]}.{each.field.name}"
        for each in inputs
        if each.field.relation in known and each.field.name not in known[each.field.relation]
    }


def _missed(answer: Answer, found: Analysis) -> Iterator[str]:
    """Influences that aren't told, neither of the column nor of the rows."""
    of_rows = {(each.field.relation[-1], each.field.name) for each in found.dataset}
    of_columns = [{(each.field.relation[-1], each.field.name) for each in column.inputs} for column in found.columns]
    anywhere = of_rows.union(*of_columns)
    names = [column.name for column in found.columns]
    for influence in answer.influences:
        field = (influence.table, influence.column)
        for place in influence.places:
            if place < 0 and not found.complete:
                continue
            if place < 0:
                told = field in anywhere
            elif len(of_columns) == len(answer.names):
                told = field in of_rows or field in of_columns[place]
            elif answer.names[place] in names:
                told = field in of_rows or field in of_columns[names.index(answer.names[place])]
            else:
                continue  # the column isn't told, and the analysis says so
            if not told:
                yield f"{'rows' if place < 0 else answer.names[place]} <- {influence.table}.{influence.column}"


def totals(verdicts: Iterable[Verdict]) -> Totals:
    """What they amount to."""
    result = Totals(Counter())
    for verdict in verdicts:
        result.kinds[verdict.kind] += 1
        result.seen += verdict.seen
        result.missed += len(verdict.missed)
        result.slow += verdict.seconds > SLOW
        result.raised += verdict.why.split(":")[0].endswith("Error")
    return result


def table(rows: Iterable[tuple[str, Totals]]) -> Iterator[str]:
    """The table, in Markdown."""
    yield "| corpus | queries | right | honestly open | lies | edges missed | over 1 s |"
    yield "|---|---|---|---|---|---|---|"
    for name, found in rows:
        count = max(1, sum(found.kinds.values()))
        shares = " | ".join(f"{100 * found.kinds[kind] / count:.1f} %" for kind in ("right", "open"))
        missed = f"{found.missed} of {found.seen:,}" if found.seen else "not tried"
        yield f"| {name} | {count:,} | {shares} | {found.kinds['lie']} | {missed} | {found.slow} |"
