"""The samples in etc/ load as they are shipped and with every setting switched on, and nothing is left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from muawrap import config, document, schema
from muawrap.config import Config
from muawrap.holding import settings
from muawrap.routing import aliases
from muawrap.routing.members import members

ETC = Path(__file__).parents[1] / "etc"
CONFIGURATION = (ETC / "muawrap.toml").read_text()
ALIASES = (ETC / "aliases").read_text()


def switched_on(text: str) -> str:
    """Every setting on: `#key = value` is one, `# text` is none."""
    return re.sub(r"^#(?=\S)", "", text, flags=re.MULTILINE)


def loaded(text: str, folder: Path) -> Config:
    path = folder / "muawrap.toml"
    path.write_text(text)
    path.chmod(0o600)
    return config.load(str(path), {})


def keys(values: dict[str, Any], rows: schema.Rows, table: str = "") -> Iterator[str]:
    """The keys that a document sets, each with its table."""
    for key, value in values.items():
        yield f"{table}.{key}"
        inner = rows[key]
        if isinstance(inner, schema.Named):
            for one in value.values():
                yield from keys(one, inner.rows, f"{table}.{key}")
        elif isinstance(inner, schema.Tables):
            for one in value if isinstance(value, list) else ():
                if isinstance(one, dict):
                    yield from keys(one, inner.rows, f"{table}.{key}")
        elif not callable(inner) and value:
            yield from keys(value, inner, f"{table}.{key}")


def needed(rows: schema.Rows, table: str = "") -> Iterator[str]:
    """The keys that a sample must show: all that can be set; of what stands in several tables, only the first."""
    for key, inner in rows.items():
        yield f"{table}.{key}"
        if isinstance(inner, (schema.Tables, schema.Named)):
            if key not in ("smart_hosts", "to") or not table:
                yield from needed(inner.rows, f"{table}.{key}")
        elif not callable(inner) and not table:
            yield from needed(inner, f"{table}.{key}")


def test_the_sample_loads_as_it_is_shipped(tmp_path: Path) -> None:
    """DESIGN: commented samples that the tests load."""
    shipped = loaded(CONFIGURATION, tmp_path)
    assert [str(host) for host in config.hosts_for(shipped, None, None)] == ["smtp.example.org:465"]


def test_the_sample_loads_with_every_setting_switched_on(tmp_path: Path) -> None:
    """DESIGN: commented samples that the tests load."""
    full = loaded(switched_on(CONFIGURATION), tmp_path)
    assert (len(full.routes), len(full.accounts), len(full.profile.hosts or ())) == (2, 1, 3)


@pytest.mark.parametrize(
    "setting",
    [
        field
        for field in Config._fields
        if field not in ("source", "profile", "routes", "accounts", "aliases_may_be_missing", "holds", "outbox")
    ],
)
def test_the_values_shown_are_the_defaults(setting: str, tmp_path: Path) -> None:
    """muawrap.toml(5): switching a setting on without changing it changes nothing."""
    shipped, full = loaded(CONFIGURATION, tmp_path), loaded(switched_on(CONFIGURATION), tmp_path)
    assert getattr(full, setting) == getattr(shipped, setting)


def test_the_values_shown_for_hosts_that_are_not_always_there_are_the_defaults(tmp_path: Path) -> None:
    """muawrap.toml(5): the same, with those that need a value of their own left out."""
    shipped, full = loaded(CONFIGURATION, tmp_path), loaded(switched_on(CONFIGURATION), tmp_path)
    assert settings.outbox(full) == settings.outbox(shipped)
    bare = loaded('[hold.cheshire]\nto = ["smtp://cheshire.example"]\n', tmp_path)
    spelled, default = (settings.keeper(one, "cheshire") for one in (full, bare))
    alike = spelled._replace(hosts=default.hosts, domains=(), etrn_names=(), rules=default.rules)
    assert alike == default
    assert [rule.sets for rule in spelled.rules] == [rule.sets for rule in default.rules]


def test_every_key_of_the_schema_stands_in_the_sample() -> None:
    """muawrap.toml(5)."""
    found = set(keys(document.parse("sample", switched_on(CONFIGURATION).encode()).values, schema.TOP))
    assert set(needed(schema.TOP)) <= found


def test_every_form_of_a_password_is_named_in_the_sample() -> None:
    """muawrap.toml(5), SECRETS."""
    for form in schema.SECRETS:
        assert f"{{ {form} = " in CONFIGURATION


@pytest.mark.parametrize("text", [ALIASES, switched_on(ALIASES)], ids=["shipped", "switched on"])
def test_the_sample_of_aliases_has_no_mistake(text: str) -> None:
    """D4: what muawrap check would complain about."""
    file = aliases.parse("aliases", text)
    assert file.wrong == ()
    for _, entry in file.entries.values():
        assert members(entry)


def test_the_sample_of_aliases_is_one_that_can_be_used() -> None:
    """D1."""
    look_up = aliases.Aliases((str(ETC / "aliases"),), False)
    entry = look_up("Postmaster")
    assert entry is not None
    assert [member.value for member in members(entry.text)] == ["root"]
    assert look_up("root") is None
    names = set(aliases.parse("aliases", switched_on(ALIASES)).entries)
    assert names == {"postmaster", "mailer-daemon", "root", "staff", "everybody", "away", "old-shop", "noreply"}
