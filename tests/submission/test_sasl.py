"""SASL mechanisms: which is chosen, and what it answers."""

from __future__ import annotations

import pytest

from muawrap import schema
from muawrap.failure import Failure
from muawrap.mail import Auth, Secret
from muawrap.submission import oauth, sasl
from muawrap.submission.sasl import Channel

PASSWORD = (Secret("literal", "pw"),)
ALL = tuple(reversed(schema.MECHANISMS))  # however they are offered


@pytest.mark.parametrize(
    ("offered", "auth", "binds", "chosen"),
    [
        (("LOGIN", "PLAIN"), Auth("al", PASSWORD), True, "PLAIN"),
        (("CRAM-MD5", "LOGIN"), Auth("al", PASSWORD), True, "LOGIN"),
        (("CRAM-MD5", "DIGEST-MD5"), Auth("al", PASSWORD), True, ""),
        (("CRAM-MD5", "PLAIN"), Auth("al", PASSWORD, ("CRAM-MD5",)), True, "CRAM-MD5"),
        (("PLAIN", "LOGIN"), Auth("al", PASSWORD, ("LOGIN", "PLAIN")), True, "LOGIN"),
        (("PLAIN",), Auth("al", PASSWORD, ("CRAM-MD5",)), True, ""),
        ((), Auth("al", PASSWORD), True, ""),
        (ALL, Auth("al", PASSWORD), True, "SCRAM-SHA-256-PLUS"),
        (ALL, Auth("al", PASSWORD), False, "SCRAM-SHA-256"),
        (("SCRAM-SHA-256", "SCRAM-SHA-1-PLUS"), Auth("al", PASSWORD), True, "SCRAM-SHA-1-PLUS"),
        (("PLAIN", "SCRAM-SHA-1"), Auth("al", PASSWORD), True, "SCRAM-SHA-1"),
        (ALL, Auth("al", token=PASSWORD), True, "OAUTHBEARER"),
        (("PLAIN", "XOAUTH2"), Auth("al", token=PASSWORD), True, "XOAUTH2"),
        (("PLAIN", "LOGIN"), Auth("al", token=PASSWORD), True, ""),
        (ALL, Auth("al", PASSWORD, token=PASSWORD), True, "SCRAM-SHA-256-PLUS"),
        (ALL, Auth("al", PASSWORD, ("XOAUTH2", "PLAIN"), token=PASSWORD), True, "XOAUTH2"),
        (ALL, Auth("al", PASSWORD, ("XOAUTH2", "PLAIN")), True, "PLAIN"),
        (ALL, Auth("al", mechanisms=("EXTERNAL",)), True, "EXTERNAL"),
        (ALL, Auth(mechanisms=("EXTERNAL",)), True, "EXTERNAL"),
        (("EXTERNAL", "PLAIN"), Auth("al", PASSWORD), True, "PLAIN"),
        (("EXTERNAL",), Auth("al", PASSWORD), True, ""),
    ],
)
def test_the_strongest_is_chosen_or_the_first_that_is_listed(
    offered: tuple[str, ...], auth: Auth, binds: bool, chosen: str
) -> None:
    """C1: what is listed decides, in its order; unlisted, by strength, and CRAM-MD5 never."""
    assert sasl.choose(offered, sasl.wanted(auth, binds)) == chosen


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
    """C7: so that no sentence tells it; in base64 wherever it stands among other octets."""
    plain = sasl.mechanism("PLAIN", "alice", "s3cret").initial
    assert plain is not None
    assert {"s3cret", "czNjcmV0", "733363726574", sasl.encode(plain)} < set(sasl.forms("alice", "s3cret"))
    for before in b"", b"x", b"xy", b"user=al\1auth=Bearer ":
        shown = sasl.encode(before + b"s3cret" + b"\1\1")
        assert any(form in shown for form in sasl.forms("alice", "s3cret"))
    assert set(sasl.forms("a", "b")) == {sasl.encode(b"\0a\0b"), "Yg==", "62", "b"}, "no single letter of base64"


# -- certificates and tokens


@pytest.mark.parametrize("user", ["", "al"])
def test_external_says_whom_to_act_as_or_nothing(user: str) -> None:
    """RFC 4422, appendix A."""
    assert sasl.mechanism("EXTERNAL", user, "").initial == user.encode()


def test_tokens_stand_as_in_their_documents() -> None:
    """RFC 7628, 4.1, and Google's page on XOAUTH2."""
    token = "vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg=="
    made = oauth.Bearer("OAUTHBEARER", "user@example.com", token, Channel("server.example.com", 143))
    assert made.initial == (
        b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer " + token.encode() + b"\x01\x01"
    )
    made = oauth.Bearer("OAUTHBEARER", "a=b,c", token)
    assert made.initial == b"n,a=a=3Db=2Cc,\x01auth=Bearer " + token.encode() + b"\x01\x01"
    made = oauth.Bearer("XOAUTH2", "someuser@example.com", "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg")
    assert sasl.encode(made.initial or b"") == (
        "dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB5YTI5LnZGOWRmdDRxbVRjMk52YjNSbGNrQmhkSFJoZG1semRHRXVZMjl0"
        "Q2cBAQ=="
    )


@pytest.mark.parametrize("token", ["", "two words", "a\1b", "t\xf6ken", "x\t"])
def test_what_is_no_token_goes_nowhere(token: str) -> None:
    """RFC 6750, 2.1: it would change the meaning of what stands around it."""
    with pytest.raises(Failure, match="the token is none"):
        oauth.Bearer("XOAUTH2", "al", token)


@pytest.mark.parametrize(
    ("challenge", "told"),
    [
        (b'{"status":"invalid_token","scope":"a b","x":1}', "the server says status invalid_token, scope a b"),
        (
            b'{"status":"400","schemes":"bearer","scope":"https://mail.google.com/"}',
            "the server says status 400, scope https://mail.google.com/, schemes bearer",
        ),
        (b'{"status":401}', "the server says status 401"),
        (b'{"status":{"deep":1}}', ""),
        (b"{}", ""),
        (b"[1]", ""),
        (b"no JSON", ""),
        (b"\xff\xfe", ""),
        (b"[" * 100_000, ""),
    ],
)
def test_a_complaint_in_json_is_told_as_far_as_it_is_for_people(challenge: bytes, told: str) -> None:
    """RFC 7628, 3.2.2; whatever it is, the exchange is ended as it must be (3.2.3)."""
    for name, end in ("OAUTHBEARER", b"\x01"), ("XOAUTH2", b""):
        made = oauth.Bearer(name, "al", "token", Channel())
        assert made.answer(challenge) == end
        assert made.complaint == told


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
