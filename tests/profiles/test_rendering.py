"""Whatever a text holds, dbt reads it as it is: its own renderer of profiles, on every text of a profile."""

from __future__ import annotations

import os

import msgspec
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from spanline.errors import SpanlineError
from spanline.profiles import Connection, Profile, resolve
from spanline.profiles.profile import protected
from spanline.runner.shared.telling import looks_secret
from spanline.testing import read_by_dbt
from tests.profiles.examples import EXAMPLES
from tests.support.examples import examples

TEXTS = st.text(st.sampled_from("ab{}%#'\"\\\n\r\t -$é\u2028\x85😀")) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0")
)


def rendered(profile: Profile) -> dict[str, object]:
    """What dbt makes of the profile's text, with the profile's variables in its environment."""
    from dbt.config.renderer import ProfileRenderer
    from dbt_common.context import set_invocation_context

    set_invocation_context({**os.environ, **profile.environment})
    read = yaml.load(profile.document("read"), Loader=yaml.CSafeLoader)  # as dbt loads it
    found = ProfileRenderer({}).render_data(read["read"]["outputs"]["default"])
    assert isinstance(found, dict)
    return found


@given(TEXTS.filter(bool))
@example("a{{ 7*7 }}b")
@example("{{ env_var('HOME') }}")
@example("{% raw %}{{ x }}{% endraw %}")
@example("{# a #}b")
@example("ends\n")
@example("ends\n\n")
@example("\r\n")
@example("{{")
@example("%}")
@example('{{ "\\" }}')
@example("$$$DBT_SECRET_START$$$HOME$$$DBT_SECRET_END$$$")
@example("about DBT_ENV_SECRET_X")
@example("$$$DBT_SECRET_START$$$DBT_ENV_SECRET_X$$$DBT_SECRET_END$$$")
@example("a?password=b&token=c")
@example("12")
@example("true")
@example("null")
@example("2020-01-01")
@example("[1, 2]")
def test_dbt_reads_every_text_as_it_is(text: str) -> None:
    connection = Connection(
        conn_id="w", conn_type="postgres", host=text, login=text, password=text, schema=text,
        extra={"schema": text, "role": text},
    )  # fmt: skip
    found = rendered(resolve(connection))
    assert {name: found[name] for name in ("host", "user", "password", "database", "schema", "role")} == dict.fromkeys(
        ("host", "user", "password", "database", "schema", "role"), text
    )


@examples(40)
@given(st.dictionaries(TEXTS, st.recursive(TEXTS | st.integers() | st.booleans(), st.lists, max_leaves=4)))
@example({"jwt": 0, "jwts": [0, True]})
def test_dbt_reads_every_mapping_as_it_is(settings_: dict[str, object]) -> None:
    connection = Connection(conn_id="w", conn_type="duckdb", extra={"settings": settings_})
    expected = {name: _as_text(value) if looks_secret(name) else value for name, value in settings_.items()}
    assert rendered(resolve(connection)).get("settings", {}) == expected


def _as_text(value: object) -> object:
    """A number as it comes out of a variable, which is where a secret is."""
    if isinstance(value, list):
        return [_as_text(inner) for inner in value]
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def test_a_text_that_jinja_leaves_alone_is_written_as_it_is() -> None:
    assert protected("db.example/{") == '{{ "db.example/{" }}'
    assert protected("db.example") == "db.example"


def test_dbt_reads_the_examples_of_the_adapters_that_are_here_and_tells_what_it_refuses_and_drops() -> None:
    """The other adapters' examples: see test_adapters."""
    here = [(adapter, one) for adapter in ("postgres", "duckdb") for one in EXAMPLES[adapter].values()]
    good = EXAMPLES["postgres"]["password"].resolved()
    wrong = msgspec.structs.replace(good, output={**good.output, "port": "6543"})
    unknown = msgspec.structs.replace(good, output={**good.output, "sslmod": "require"})
    *read, refused, taken = read_by_dbt(*(one.resolved() for _, one in here), wrong, unknown)
    for (adapter, one), reading in zip(here, read, strict=True):
        assert (reading.refused, reading.rendered) == (None, {"type": adapter, **one.output})
        assert reading.dropped == set()
        assert reading.credentials["schema"] == one.output.get("schema", "main")
    assert refused.refused is not None
    assert "'6543' is not of type 'integer'" in refused.refused
    assert (taken.refused, taken.dropped) == (None, {"sslmod"})


def test_an_interpreter_without_dbt_is_an_error() -> None:
    with pytest.raises(SpanlineError, match="could not read the profiles"):
        read_by_dbt(EXAMPLES["postgres"]["password"].resolved(), python="/bin/false")
