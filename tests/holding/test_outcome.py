"""Whom a failure is about, as retry rules know it."""

from __future__ import annotations

import pytest

from muawrap.failure import Failure, Stage
from muawrap.holding.shipping import outcome


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("mail.example.org:25", "mail.example.org"),
        ("[2001:db8::1]:25", "2001:db8::1"),
        ("mail.example.org:25 (by mx://example.org)", "mail.example.org"),
        ("mail.example.org:587 (verify = false)", "mail.example.org"),
        ("example.org", "example.org"),
        ("/run/lmtp", "/run/lmtp"),
    ],
)
def test_a_host_is_known_by_its_name_alone(host: str, name: str) -> None:
    """INTERMITTENT 3.1: host names are matched, and no ports."""
    assert outcome.host_name(Failure("lost", stage=Stage.MAIL, host=host), ()) == name


def test_of_several_the_first_counts_and_without_any_there_is_no_name() -> None:
    """INTERMITTENT 3.1."""
    reasons = tuple(Failure("lost", stage=Stage.CONNECT, host=f"{name}:25") for name in ("a.example", "b.example"))
    assert outcome.host_name(Failure("nobody", reasons=reasons), ()) == "a.example"
    assert outcome.host_name(Failure("full"), ()) == ""
