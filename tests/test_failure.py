"""A failure in one sentence: stage, host, recipient, reply (RULES A3, A7, C7)."""

from __future__ import annotations

import pytest

from muawrap.failure import NAMED, REFUSED, Failure, Stage
from muawrap.mail import Reply

HOST = "smtp.example.org:587"

ANSWERED = {
    Stage.CONNECT: f"{HOST} 550 5.7.1 no",
    Stage.GREETING: f"{HOST} greeted us with 550 5.7.1 no",
    Stage.EHLO: f"{HOST} answered EHLO with 550 5.7.1 no",
    Stage.LHLO: f"{HOST} answered LHLO with 550 5.7.1 no",
    Stage.STARTTLS: f"{HOST} answered STARTTLS with 550 5.7.1 no",
    Stage.TLS: f"{HOST} 550 5.7.1 no",
    Stage.AUTH: f"{HOST} answered AUTH with 550 5.7.1 no",
    Stage.OFFER: f"{HOST} left with 550 5.7.1 no",
    Stage.MAIL: f"{HOST} refused the sender: 550 5.7.1 no",
    Stage.RCPT: f"{HOST} refused the recipient 550 5.7.1 no",
    Stage.DATA: f"{HOST} answered DATA with 550 5.7.1 no",
    Stage.TEXT: f"{HOST} interrupted the text with 550 5.7.1 no",
    Stage.VERDICT: f"{HOST} refused the message: 550 5.7.1 no",
    Stage.ETRN: f"{HOST} refused ETRN for 550 5.7.1 no",
    Stage.ATRN: f"{HOST} refused ATRN: 550 5.7.1 no",
}

LOST = {
    Stage.CONNECT: f"{HOST}: connection lost while connecting",
    Stage.GREETING: f"{HOST}: connection lost while waiting for the greeting",
    Stage.EHLO: f"{HOST}: connection lost while saying EHLO",
    Stage.LHLO: f"{HOST}: connection lost while saying LHLO",
    Stage.STARTTLS: f"{HOST}: connection lost while asking for TLS",
    Stage.TLS: f"{HOST}: connection lost while setting up TLS",
    Stage.AUTH: f"{HOST}: connection lost while authenticating",
    Stage.OFFER: f"{HOST}: connection lost",
    Stage.MAIL: f"{HOST}: connection lost while naming the sender",
    Stage.RCPT: f"{HOST}: connection lost while naming the recipients",
    Stage.DATA: f"{HOST}: connection lost while announcing the text",
    Stage.TEXT: f"{HOST}: connection lost while sending the text",
    Stage.VERDICT: f"{HOST}: connection lost while waiting for the verdict on the message",
    Stage.ETRN: f"{HOST}: connection lost while asking for our mail",
    Stage.ATRN: f"{HOST}: connection lost while asking for our mail",
}


@pytest.mark.parametrize("stage", Stage)
def test_a_reply_is_introduced_by_what_it_answered(stage: Stage) -> None:
    """A3: the sentence names stage, host and reply."""
    failure = Failure(stage=stage, host=HOST, reply=Reply(550, ("5.7.1 no",)))
    assert failure.sentence() == ANSWERED[stage]


@pytest.mark.parametrize("stage", Stage)
def test_without_a_reply_the_sentence_says_what_we_were_doing(stage: Stage) -> None:
    """A3: the sentence names stage and host."""
    assert Failure("connection lost", stage=stage, host=HOST).sentence() == LOST[stage]


def test_a_refused_recipient_is_named() -> None:
    """A3: the sentence names the recipient."""
    failure = Failure(stage=Stage.RCPT, host=HOST, recipient="<a@b.example>", reply=Reply(550, ("no such user",)))
    assert failure.sentence() == f"{HOST} refused the recipient <a@b.example>: 550 no such user"


def test_every_line_of_a_reply_is_told() -> None:
    """A3: the host's own words, whole."""
    failure = Failure(stage=Stage.MAIL, host=HOST, reply=Reply(550, ("5.7.1 no", "", " see https://example.org ")))
    assert failure.sentence() == f"{HOST} refused the sender: 550 5.7.1 no see https://example.org"


def test_a_remark_stands_behind_the_reply() -> None:
    """C3: a reply of the wrong class is no answer."""
    failure = Failure("which is no answer to that", stage=Stage.DATA, host=HOST, reply=Reply(250, ("ok",)))
    assert failure.sentence() == f"{HOST} answered DATA with 250 ok (which is no answer to that)"


def test_a_local_failure_is_its_own_sentence() -> None:
    """A3: what happened before any host was contacted names none; without a word of its own it is a refusal."""
    failure = Failure("no recipient")
    assert (str(failure), failure.lead) == ("no recipient", REFUSED)


@pytest.mark.row("S7")
def test_all_reasons_are_told_in_order() -> None:
    """C7: one line with each host's own reason."""
    reasons = (
        Failure("refused", stage=Stage.CONNECT, host="one:25"),
        Failure("silent", stage=Stage.EHLO, host="two:25"),
    )
    failure = Failure("no smart host took the message", reasons=reasons)
    assert failure.sentence() == (
        "no smart host took the message: one:25: refused while connecting; two:25: silent while saying EHLO"
    )


@pytest.mark.parametrize(
    ("count", "more"), [(1, ""), (NAMED, ""), (NAMED + 1, "; and 1 more"), (500, "; and 490 more")]
)
def test_ten_reasons_are_named_and_the_others_counted(count: int, more: str) -> None:
    """A7: named up to ten, then "and N more"."""
    failure = Failure(reasons=tuple(Failure(f"reason {number}") for number in range(count)))
    named = "; ".join(f"reason {number}" for number in range(min(count, NAMED)))
    assert failure.sentence() == named + more


def test_the_log_may_ask_for_more_than_ten() -> None:
    """A7: the log line takes more of them."""
    failure = Failure(reasons=tuple(Failure(f"reason {number}") for number in range(500)))
    assert failure.sentence(499).endswith("; reason 498; and 1 more")
    assert failure.sentence(500).endswith("; reason 499")
