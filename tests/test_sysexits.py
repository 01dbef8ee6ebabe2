"""A failure as one of sysexits.h, for those who ask for it: 75 and 70 mean one thing each (RULES A1)."""

from __future__ import annotations

import itertools
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muawrap import sysexits
from muawrap.failure import REFUSED, TRY_AGAIN, UNCERTAIN, Failure, Stage, together
from muawrap.mail import Reply

OF_A_REPLY = [
    # where, what the host says, the status
    (Stage.GREETING, "554 no mail here", os.EX_UNAVAILABLE),
    (Stage.GREETING, "554 5.7.1 your address is blocked", os.EX_NOPERM),
    (Stage.EHLO, "501 5.5.4 invalid domain name", os.EX_UNAVAILABLE),
    (Stage.STARTTLS, "501 no", os.EX_UNAVAILABLE),
    (Stage.AUTH, "535 authentication credentials invalid", os.EX_NOPERM),
    (Stage.AUTH, "535 5.7.8 authentication failed", os.EX_NOPERM),
    (Stage.AUTH, "504 5.5.4 unknown mechanism", os.EX_NOPERM),
    (Stage.MAIL, "553 no such sender", os.EX_DATAERR),
    (Stage.MAIL, "550 5.1.8 bad sender's domain", os.EX_DATAERR),
    (Stage.MAIL, "530 5.7.0 authentication required", os.EX_NOPERM),
    (Stage.RCPT, "550 unknown user", os.EX_NOUSER),
    (Stage.RCPT, "551 user not local", os.EX_NOUSER),
    (Stage.RCPT, "553 no such mailbox", os.EX_NOUSER),
    (Stage.RCPT, "550 relay not permitted", os.EX_NOPERM),
    (Stage.RCPT, "550 Relaying denied", os.EX_NOPERM),
    (Stage.RCPT, "550 5.1.1 unknown", os.EX_NOUSER),
    (Stage.RCPT, "554 5.1.6 has moved", os.EX_NOUSER),
    (Stage.RCPT, "550 5.1.2 no such domain", os.EX_NOHOST),
    (Stage.RCPT, "556 5.1.10 null MX", os.EX_NOHOST),
    (Stage.RCPT, "550 5.1.11 no such code", os.EX_UNAVAILABLE),  # which is neither 5.1.1 nor for nobody
    (Stage.RCPT, "550 5.2.1 disabled", os.EX_UNAVAILABLE),
    (Stage.RCPT, "550 5.7.1 access denied", os.EX_NOPERM),
    (Stage.RCPT, "552 full", os.EX_UNAVAILABLE),
    (Stage.RCPT, "554 no", os.EX_UNAVAILABLE),
    (Stage.RCPT, "550 5.1.2.3 is the address of a host, and no code", os.EX_NOUSER),
    (Stage.DATA, "554 no valid recipients", os.EX_UNAVAILABLE),
    (Stage.TEXT, "552 5.3.4 too big", os.EX_DATAERR),
    (Stage.VERDICT, "554 5.6.0 malformed", os.EX_DATAERR),
    (Stage.VERDICT, "550 spam", os.EX_DATAERR),
    (Stage.VERDICT, "550 5.7.1 spam", os.EX_NOPERM),
]


def answered(stage: Stage, said: str, lead: str = REFUSED) -> Failure:
    return Failure(lead=lead, stage=stage, host="h:25", reply=Reply(int(said[:3]), (said[4:],)))


@pytest.mark.parametrize(("stage", "said", "expected"), OF_A_REPLY)
def test_a_refusal_is_what_the_hosts_own_code_says_else_what_was_asked(stage: Stage, said: str, expected: int) -> None:
    """A1: 67 and 68 make callers drop the mail for good, so that they are said of the recipient only."""
    assert sysexits.status(answered(stage, said)) == expected


@pytest.mark.parametrize("stage", Stage)
def test_a_refusal_without_a_reply_is_a_matter_of_settings_up_to_the_login(stage: Stage) -> None:
    """A1."""
    settings = (Stage.CONNECT, Stage.STARTTLS, Stage.TLS, Stage.AUTH)
    expected = os.EX_CONFIG if stage in settings else os.EX_UNAVAILABLE
    assert sysexits.status(Failure("no", stage=stage)) == expected


def test_what_no_host_was_asked_about_is_the_message_or_an_address_unless_it_says_otherwise() -> None:
    """A1."""
    assert sysexits.status(Failure("no recipient")) == os.EX_DATAERR
    assert sysexits.status(Failure("no smart host", status=os.EX_CONFIG)) == os.EX_CONFIG


UNKNOWN = answered(Stage.RCPT, "550 5.1.1 unknown")
LATER = answered(Stage.RCPT, "450 later", TRY_AGAIN)
NOT_ALLOWED = answered(Stage.RCPT, "550 5.7.1 no")


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        ([UNKNOWN, UNKNOWN], os.EX_NOUSER),
        ([UNKNOWN, LATER], os.EX_NOUSER),  # what may pass is not why it was refused
        ([UNKNOWN, NOT_ALLOWED], os.EX_UNAVAILABLE),
        ([LATER, LATER], os.EX_TEMPFAIL),
        ([Failure("a"), Failure("b")], os.EX_DATAERR),
        ([Failure("a"), together([Failure("b"), UNKNOWN])], os.EX_UNAVAILABLE),
    ],
)
def test_several_refusals_are_one_status_where_they_agree(reasons: list[Failure], expected: int) -> None:
    """A1."""
    assert sysexits.status(together(reasons)) == expected


leads = st.sampled_from([TRY_AGAIN, REFUSED, UNCERTAIN])
replies = st.builds(
    lambda code, enhanced, text: Reply(code, (enhanced + text,)),
    st.integers(200, 599),
    st.sampled_from(["", "4.7.0 ", "5.1.1 ", "5.7.1 ", "5.999.999 ", "2.0.0 "]),
    st.text(max_size=9),
)
single = st.builds(
    lambda lead, stage, reply, status: Failure("x", lead=lead, stage=stage, reply=reply, status=status),
    leads,
    st.sampled_from([None, *Stage]),
    st.none() | replies,
    st.sampled_from([0, os.EX_CONFIG, os.EX_UNAVAILABLE]),
)
failures = single | st.builds(
    lambda lead, reasons: Failure(lead=lead, reasons=tuple(reasons)), leads, st.lists(single, max_size=3)
)


@given(failures)
def test_75_and_70_mean_one_lead_each_and_0_is_never_a_failure(failure: Failure) -> None:
    """A1: 75 only for temporary and certainly not sent, 70 only for "may have been sent"."""
    status = sysexits.status(failure)
    assert (status == os.EX_TEMPFAIL) == (failure.lead == TRY_AGAIN)
    assert (status == os.EX_SOFTWARE) == (failure.lead == UNCERTAIN)
    assert os.EX_USAGE <= status <= os.EX_CONFIG


def test_every_status_there_can_be_stands_in_the_manual_and_no_other() -> None:
    """sendmail(8), EXIT STATUS: beside 0, and 1 for those who did not ask."""
    from tests.test_manual import items

    tables = sysexits.LEADS, sysexits.ENHANCED, sysexits.STAGES
    known = {*itertools.chain(*(table.values() for table in tables)), sysexits.LOCAL, os.EX_CONFIG, os.EX_UNAVAILABLE}
    known |= {os.EX_NOUSER, os.EX_NOPERM}
    assert [item.head for item in items("sendmail.8", "EXIT STATUS")] == [str(one) for one in (0, 1, *sorted(known))]
