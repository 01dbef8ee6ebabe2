"""The MUAWRAP_* variables as the values a file would give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from muawrap import schema, trust
from muawrap.document import Where
from muawrap.failure import Failure

PREFIX = "MUAWRAP_"
FILE_LIMIT = 1024 * 1024
FETCHED = PREFIX + "FETCHED"
"""Set by `muawrap atrn` for the mail system it hands messages to: that must not be this program."""

KEYS: dict[str, tuple[str, ...]] = {
    **{PREFIX + key.upper(): (key,) for key in schema.TOP if key not in schema.TABLES},
    **{
        f"{PREFIX}{table}_{key}".upper(): (table, key)
        for table in ("auth", "tls", "timeouts")
        for key in schema.TABLES[table]
    },
}
"""Each variable, and the key it stands for."""


def read(environ: Mapping[str, str]) -> tuple[dict[str, Any], dict[Where, str]]:
    """What the variables say, as a file's values, and which variable said it. Raises Failure."""
    values: dict[str, Any] = {}
    origin: dict[Where, str] = {}
    for variable in sorted(environ):
        if not variable.startswith(PREFIX):
            continue
        in_file = variable not in KEYS and variable.endswith("_FILE")
        key = KEYS.get(variable.removesuffix("_FILE") if in_file else variable)
        if key is None:
            near = schema.nearest(variable, KEYS)
            raise Failure(
                f"unknown environment variable {variable}",
                advice=f"did you mean {near}?" if near else "unset it; muawrap.toml(5) has them all",
            )
        if key in origin:
            raise Failure(f"the environment variables {origin[key]} and {variable} exclude each other")
        origin[key] = variable
        content = environ[variable]
        if key[-1] in ("password", "token") and in_file:
            value: object = {"file": content}  # read when it is needed, and as strictly as every password file
        else:
            value = _value(key, _content(variable, content) if in_file else content)
        table = values.setdefault(key[0], {}) if len(key) == 2 else values
        table[key[-1]] = value
    return values, origin


def _content(variable: str, path: str) -> str:
    try:
        return trust.read(path, limit=FILE_LIMIT).text.rstrip("\r\n")
    except (FileNotFoundError, NotADirectoryError):
        raise Failure(f"{variable} names {path}, which does not exist") from None


def _value(key: tuple[str, ...], content: str) -> object:
    """A variable's text as TOML would have given it; what cannot be stays text, and the schema will say so."""
    row = schema.TOP[key[0]] if len(key) == 1 else schema.TABLES[key[0]][key[1]]
    convert = _listed if key == ("smart_hosts",) else _CONVERSIONS.get(row, str)
    try:
        return convert(content)
    except ValueError:
        return content


def _listed(content: str) -> list[str]:
    return [item.strip() for item in content.split(",") if item.strip()]


def _flag(content: str) -> object:
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(content.lower(), content)


_CONVERSIONS: dict[object, Callable[[str], object]] = {
    schema.flag: _flag,
    schema.number: int,
    schema.seconds: float,
    schema.delay: float,
    schema.some_seconds: float,
    **dict.fromkeys(
        (
            schema.texts,
            schema.globs,
            schema.domains,
            schema.mechanisms,
            schema.logs,
            schema.command,
            schema.fingerprints,
        ),
        _listed,
    ),
}
"""How the text of a variable becomes what the check of its key expects."""
