"""What an output column owes to an input column, in OpenLineage's words, and how that adds up along a query.

Source: https://openlineage.io/docs/spec/facets/dataset-facets/column_lineage_facet for the words. How two of them add
up is the rule of OpenLineage's Spark integration (`TransformationInfo.merge`), so that lineage reads alike wherever it
comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final

import msgspec

from spanline.lineage.schema import Relation


class Field(msgspec.Struct, frozen=True, cache_hash=True):
    """An input column: of the relation as the schema has it, else as the SQL names it, folded as the dialect folds."""

    relation: Relation
    name: str


class Transformation(msgspec.Struct, frozen=True):
    """How an input column has a part in an output column, or in a whole dataset."""

    type: str
    subtype: str


_ALL: Final = (
    Transformation("DIRECT", "IDENTITY"),
    Transformation("DIRECT", "TRANSFORMATION"),
    Transformation("DIRECT", "AGGREGATION"),
    Transformation("INDIRECT", "JOIN"),
    Transformation("INDIRECT", "FILTER"),
    Transformation("INDIRECT", "GROUP_BY"),
    Transformation("INDIRECT", "SORT"),
    Transformation("INDIRECT", "WINDOW"),
    Transformation("INDIRECT", "CONDITIONAL"),
)

Kinds = int
"""A set of transformations, one bit for each; those of the direct ones go from the weakest to the strongest."""

IDENTITY, TRANSFORMATION, AGGREGATION, JOIN, FILTER, GROUP_BY, SORT, WINDOW, CONDITIONAL = (
    1 << place for place in range(len(_ALL))
)

Lineage = Mapping[Field, Kinds]
"""The input columns of something, each with all the ways in which it has a part. Shared, so never changed."""

NOTHING: Final[Lineage] = {}


@cache
def through(outer: Kinds, inner: Kinds) -> Kinds:
    """What an input is to a whole, when it is `inner` to a part that is `outer` to the whole.

    What has an indirect part has that part in whatever follows, unless this is indirect itself; of two direct ones the
    stronger holds.
    """
    if outer == IDENTITY:
        return inner
    result = 0
    for first in _members(outer):
        for second in _members(inner):
            direct = first < JOIN and second < JOIN
            result |= max(first, second) if direct or first < JOIN else first
    return result


def add(into: dict[Field, Kinds], lineage: Lineage, kinds: Kinds = IDENTITY) -> None:
    """Add to a lineage in the making that of a part which is of the given kinds."""
    for field, inner in lineage.items():
        into[field] = into.get(field, 0) | through(kinds, inner)


@cache
def transformations(kinds: Kinds) -> tuple[Transformation, ...]:
    """The members of a set of kinds."""
    return tuple(each for place, each in enumerate(_ALL) if kinds >> place & 1)


def _members(kinds: Kinds) -> list[Kinds]:
    return [1 << place for place in range(len(_ALL)) if kinds >> place & 1]
