"""A retry record as a small file: when it was tried, when it is tried next, and what went wrong last."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from muawrap.holding import durable
from muawrap.holding.formats import disk
from muawrap.holding.rules.schedule import Record

LIMIT = 64 * 1024  # octets; the longest reply a host may give is a part of it
_TEXTS = {"error": LIMIT // 16, "name": 256, "host": 1024, "way": 1024}  # characters, of up to six octets each


class Noted(NamedTuple):
    """The retry record of a host or of a message, and what went wrong last."""

    record: Record
    error: str = ""  # a sentence; "" where nothing has been tried
    name: str = ""  # of that error in retry rules; "" is one that only "*" covers
    host: str = ""  # whose trouble it was, as rules know it; "" where nobody knows
    way: str = ""  # the list of hosts that was down, where a message has it on record; "" where the trouble is its own


def written(noted: Noted) -> bytes:
    """{"first": ..., "last": ..., "next": ..., "expired": ..., "error": ..., "name": ..., "host": ..., "way": ...}.

    Times are seconds since the epoch; texts are cut off where they are too long.
    """
    record = noted.record
    fields = {"first": record.first, "last": record.last, "next": record.next, "expired": record.expired}
    texts = {key: getattr(noted, key)[:limit] for key, limit in _TEXTS.items()}
    return json.dumps({**fields, **texts}).encode("ascii") + b"\n"


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
    expired, texts = fields.get("expired"), [fields.get(key, "") for key in _TEXTS]
    if not isinstance(expired, bool) or not all(isinstance(text, str) for text in texts):
        raise ValueError("expired or error is of another kind")
    return Noted(Record(first, last, later, expired), *texts)


def _moment(fields: dict[str, Any], key: str) -> float:
    value = fields.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or disk.sane(value) != value:  # NaN, too
        raise ValueError(f"{key} is no time")
    return value
