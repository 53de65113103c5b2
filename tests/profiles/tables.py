"""The tables of docs/profiles.md, made of the adapters themselves: `python -m tests.profiles.tables` writes them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

from spanline.profiles import Adapter, Field
from spanline.profiles.adapter import OF_CONNECTION
from spanline.profiles.registry import ours

PAGE = Path(__file__).parents[2] / "docs" / "profiles.md"
_BETWEEN = re.compile(r"(<!-- tables: .*? -->\n).*?(<!-- end of the tables -->)", re.DOTALL)
_KINDS = {
    str: "texts", int: "whole numbers", float: "numbers", bool: "true or false", list[str]: "lists of texts",
    dict[str, str]: "mappings of texts", dict[str, object]: "mappings",
}  # fmt: skip


def page() -> str:
    """What docs/profiles.md should be."""
    return _BETWEEN.sub(lambda found: f"{found[1]}\n{tables()}\n{found[2]}", PAGE.read_text())


def tables() -> str:
    """A section for each adapter."""
    alike: list[list[Adapter]] = []
    for _, adapter in sorted(ours().items()):
        known = next((group for group in alike if group[0].fields == adapter.fields), None)
        if known is None:
            alike.append([adapter])
        else:
            known.append(adapter)
    titles = [[adapter.name for adapter in group] for group in alike]
    index = ", ".join(f"[{', '.join(names)}](#{'-'.join(names)})" for names in titles)
    sections = ("\n".join(_section(group[0], names)) for group, names in zip(alike, titles, strict=True))
    return "\n".join([_wrapped(f"{index}."), *sections])


def _section(adapter: Adapter, names: list[str]) -> Iterator[str]:
    types = _listed((*names, *adapter.conn_types))
    provider = f"; keys of {adapter.provider}" if adapter.provider else ""
    yield f"### {_listed(names)}\n"
    yield _wrapped(f"Connection type {types}. Fields of {adapter.package}{provider}. {_note(adapter)}")
    yield "| field | from | |"
    yield "|---|---|---|"
    plain = [field for field in adapter.fields if _is_plain(field)]
    for field in (*adapter.fields, *adapter.inputs):
        if field not in plain:
            yield f"| {_names(field)} | {_sources(field)} | {_what(field, written=field in adapter.fields)} |"
    yield ""
    if plain:
        by_kind = [
            f"{word} {_listed(field.name for field in plain if field.kind == kind)}"
            for kind, word in _KINDS.items()
            if any(field.kind == kind for field in plain)
        ]
        yield _wrapped(f"Also in `extra`: {'; '.join(by_kind)}.")
    if adapter.refused:
        reasons = dict.fromkeys(adapter.refused.values())
        by_reason = [f"{_listed(key for key, why in adapter.refused.items() if why == reason)} ({reason})"
                     for reason in reasons]  # fmt: skip
        yield _wrapped(f"Refused in `extra`: {'; '.join(by_reason)}.")
    if adapter.ignored:
        yield _wrapped(f"In `extra`, ignored by dbt: {_listed(adapter.ignored)}.")


def _is_plain(field: Field) -> bool:
    """Whether there is nothing to say of a field but its name and its kind."""
    return field == Field(field.name, kind=field.kind) and any(field.kind == kind for kind in _KINDS)


def _names(field: Field) -> str:
    return _listed((field.name, *field.aliases))


def _sources(field: Field) -> str:
    of_connection = [source for source in field.sources if source in OF_CONNECTION]
    in_extra = [source for source in field.sources if source not in OF_CONNECTION]
    return ", ".join([*of_connection, *([f"{_listed(in_extra)} in `extra`"] if in_extra else [])])


def _what(field: Field, *, written: bool) -> str:
    if not written:
        return "used to derive other fields"
    said = [
        "**required**" if field.required else "",
        "secret" if field.secret else "",
        f"default `{field.default}`" if field.default is not None else "",
        f"one of {', '.join(f'`{choice}`' for choice in field.choices)}" if field.choices else "",
        f"the variable `{field.variable}`" if field.variable else "",
    ]
    return ", ".join(filter(None, said))


def _note(adapter: Adapter) -> str:
    """What the first paragraph of its function says."""
    return " ".join((adapter.finish.__doc__ or "").split("\n\n")[0].split())


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _wrapped(paragraph: str) -> str:
    return textwrap.fill(paragraph.strip(), 120, break_long_words=False, break_on_hyphens=False) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
