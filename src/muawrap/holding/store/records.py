"""A retry record as a small file: when it was tried, when it is tried next, and what went wrong last."""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

from muawrap.holding import durable
from muawrap.holding.rules.schedule import Record

LIMIT = 64 * 1024  # octets; the longest reply a host may give is a part of it


class Noted(NamedTuple):
    """The retry record of a host or of a message, and what went wrong last."""

    record: Record
    error: str = ""


def written(noted: Noted) -> bytes:
    """{"first": ..., "last": ..., "next": ..., "expired": ..., "error": ...}, times in seconds since the epoch."""
    record = noted.record
    fields = {"first": record.first, "last": record.last, "next": record.next, "expired": record.expired}
    return json.dumps({**fields, "error": noted.error[: LIMIT // 16]}).encode("ascii") + b"\n"


def read(folder: int, name: str) -> Noted | None:
    """The record in a file, None where there is none. Raises ValueError where it is damaged or cannot be read."""
    try:
        fields = json.loads(durable.read(folder, name, LIMIT))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(durable.reason(error)) from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(fields, dict):
        raise ValueError("not an object")
    first, last, later = (_moment(fields, key) for key in ("first", "last", "next"))
    expired, wrong = fields.get("expired"), fields.get("error", "")
    if not isinstance(expired, bool) or not isinstance(wrong, str):
        raise ValueError("expired or error is of another kind")
    return Noted(Record(first, last, later, expired), wrong)


def _moment(fields: dict[str, Any], key: str) -> float:
    value = fields.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{key} is no time")
    return value
