"""SASL mechanisms: which is chosen, and what it answers."""

from __future__ import annotations

import pytest

from muawrap.submission import sasl


@pytest.mark.parametrize(
    ("offered", "wanted", "chosen"),
    [
        (("LOGIN", "PLAIN"), (), "PLAIN"),
        (("CRAM-MD5", "LOGIN"), (), "LOGIN"),
        (("CRAM-MD5", "DIGEST-MD5"), (), ""),
        (("CRAM-MD5", "PLAIN"), ("CRAM-MD5",), "CRAM-MD5"),
        (("PLAIN", "LOGIN"), ("LOGIN", "PLAIN"), "LOGIN"),
        (("PLAIN",), ("CRAM-MD5",), ""),
        ((), (), ""),
    ],
)
def test_cram_md5_is_used_only_where_it_is_listed(
    offered: tuple[str, ...], wanted: tuple[str, ...], chosen: str
) -> None:
    """C1: what is listed decides, in its order; unlisted, PLAIN before LOGIN."""
    assert sasl.choose(offered, wanted) == chosen


def test_plain_says_it_all_at_once() -> None:
    """C1: RFC 4616."""
    plain = sasl.mechanism("PLAIN", "alice", "s3cret")
    assert plain.initial == b"\0alice\0s3cret"
    assert plain.answer(b"") == b"\0alice\0s3cret"


def test_login_says_user_and_password_whatever_the_prompts_say() -> None:
    """C1: and nothing more after them."""
    login = sasl.mechanism("LOGIN", "alice", "s3cret")
    assert login.initial is None
    assert [login.answer(b"?") for _ in range(3)] == [b"alice", b"s3cret", b""]


def test_cram_md5_answers_as_in_its_rfc() -> None:
    """C1: the example of RFC 2195, 2."""
    cram = sasl.mechanism("CRAM-MD5", "tim", "tanstaaftanstaaf")
    assert cram.initial is None
    answer = cram.answer(b"<1896.697170952@postoffice.reston.mci.net>")
    assert answer == b"tim b913a602c7eda7a495b4e6e7334d3890"


@pytest.mark.parametrize("name", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_a_password_that_is_no_utf8_goes_as_it_is(name: str) -> None:
    """C1: a Latin-1 file holds the octets the server knows."""
    made = sasl.mechanism(name, "alice", b"p\xe9".decode("utf-8", "surrogateescape"))
    answers = made.initial or b" ".join(made.answer(b"x") for _ in range(2))
    assert b"p\xe9" in answers or name == "CRAM-MD5"


def test_every_form_a_server_could_repeat_the_password_in_is_named() -> None:
    """C7: so that no sentence tells it."""
    plain = sasl.mechanism("PLAIN", "alice", "s3cret").initial
    assert plain is not None
    assert set(sasl.forms("alice", "s3cret")) == {"s3cret", "czNjcmV0", "733363726574", sasl.encode(plain)}


@pytest.mark.parametrize("text", ["Username:", "VXNlcm5hbWU", "VXNl cm5h", "é", "===="])
def test_a_challenge_that_is_no_base64_is_an_error(text: str) -> None:
    """C1: nothing is guessed."""
    with pytest.raises(ValueError, match=r".+"):
        sasl.decode(text)


def test_base64_of_nothing_is_nothing() -> None:
    """C1: "=" is for initial responses only (RFC 4954, 4)."""
    assert sasl.encode(b"") == ""
    assert sasl.decode("") == b""
    assert sasl.decode(" VXNlcm5hbWU6 ") == b"Username:"
