"""One sender, one host list, one text for all: the precedence of routes, accounts and senders, from real files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from muawrap import config
from muawrap.failure import Failure
from muawrap.mail import Body, Header, Invocation, Message, Recipient, Transaction
from muawrap.routing import transaction
from muawrap.routing.transaction import Caller
from tests.support.counting import Counted

AL = Caller("al", "Al Bundy")
TOP = 'smart_hosts = ["smtp://top.example"]\nqualify_domain = "q.example"\nlog = "none"\n'
FROM = 'from = "me@s.example"\n'

Build = Callable[..., Transaction]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """transaction.build with a configuration that was read from a file."""

    def built(
        toml: str,
        recipients: str = "x@y.example",
        header: str = "",
        who: Caller = AL,
        top: str = TOP,
        **invocation: object,
    ) -> Transaction:
        file = tmp_path / "muawrap.toml"
        file.write_text(top + toml)
        file.chmod(0o600)
        settings = config.load(str(file), {})
        lines = [line + "\n" for line in header.split("\n") if line]
        fields = tuple(Header(line.partition(":")[0].lower(), line.encode()) for line in lines)
        given = tuple(Recipient(address, (), f"<{address}>") for address in recipients.split())
        asked = Invocation()._replace(**invocation)  # type: ignore[arg-type]
        return transaction.build(asked, settings, Message(fields, Body()), given, who)

    return built


def hosts(built: Transaction) -> list[str]:
    return [str(way.host) for way in built.ways]


def senders(built: Transaction) -> list[str]:
    return [way.sender for way in built.ways]


def header(built: Transaction, name: str) -> str:
    """The first field of that name as the first host would get it."""
    lines = built.ways[0].header.decode("utf-8", "surrogateescape").split("\n")
    return next((line for line in lines if line.lower().startswith(name.lower() + ":")), "")


# -- the envelope sender ---------------------------------------------------------------------------------------------

SENDERS: list[tuple[str, str | None, str, str]] = [
    # configuration, -f, From:, the sender
    ("", None, "", "al@q.example"),
    ("", None, "b@x.example", "al@q.example"),
    ("", "f@x.example", "b@x.example", "f@x.example"),
    ("", "bob", "", "bob@q.example"),
    ("", "bob@localhost", "", "bob@q.example"),
    ("", "Bob <f@x.example>", "", "f@x.example"),
    ("", "", "b@x.example", ""),
    ("", "<>", "", ""),
    (FROM, None, "b@x.example", "me@s.example"),
    (FROM, "f@x.example", "", "me@s.example"),
    (FROM, "me@S.EXAMPLE", "", "me@S.EXAMPLE"),
    (FROM, "Me@s.example", "", "me@s.example"),  # local parts compare exactly
    (FROM, "me+lists@S.example", "", "me+lists@S.example"),
    (FROM, "Me+lists@s.example", "", "me@s.example"),
    (FROM, "+me@s.example", "", "me@s.example"),
    (FROM, "", "", ""),
    (FROM + 'null_sender = "from"\n', "", "", "me@s.example"),
    (FROM + 'null_sender = "from"\n', "<>", "b@x.example", "me@s.example"),
    ('null_sender = "from"\n', "", "", ""),
    (FROM + 'allowed_from = ["*@x.example"]\n', "f@x.example", "", "f@x.example"),
    (FROM + 'allowed_from = ["*@x.example"]\n', "f@sub.x.example", "", "me@s.example"),
    (FROM + 'allowed_from = ["f@X.example"]\n', "F+detail@x.EXAMPLE", "", "F+detail@x.EXAMPLE"),
    (FROM + 'allowed_from = ["f?@x.example"]\n', "f1@x.example", "", "f1@x.example"),
    (FROM + 'allowed_from = ["f.@x.example"]\n', "f1@x.example", "", "me@s.example"),
    (FROM + 'allowed_from = ["al@q.example"]\n', "al", "", "al@q.example"),
    ("envelope_from_header = true\n", None, "B <b@x.example>", "b@x.example"),
    ("envelope_from_header = true\n", None, "b", "b@q.example"),
    ("envelope_from_header = true\n", None, "two words", "al@q.example"),
    ("envelope_from_header = true\n", "f@x.example", "b@x.example", "f@x.example"),
    ("envelope_from_header = true\n", "", "b@x.example", ""),
    ("envelope_from_header = true\n" + FROM, None, "b@x.example", "me@s.example"),
    ("envelope_from_header = true\n" + FROM + 'allowed_from = ["b@*"]\n', None, "b@x.example", "b@x.example"),
    ('[auth]\nuser = "u@a.example"\npassword = "secret"\n', None, "", "u@a.example"),
    ('[auth]\nuser = "u@a.example"\npassword = "secret"\n', "f@x.example", "", "u@a.example"),
    ('[auth]\nuser = "user"\npassword = "secret"\n', "f@x.example", "", "f@x.example"),
    (FROM + '[auth]\nuser = "u@a.example"\npassword = "secret"\n', None, "", "me@s.example"),
]


@pytest.mark.parametrize(("toml", "given", "from_", "expected"), SENDERS)
def test_the_envelope_sender_is_the_first_that_may_pass(
    build: Build, toml: str, given: str | None, from_: str, expected: str
) -> None:
    """muawrap.toml(5): -f, From: with envelope_from_header, `from`, login@qualify_domain."""
    built = build(toml, header=f"From: {from_}" if from_ else "", sender=given)
    assert senders(built) == [expected]


NO_DOMAIN = 'smart_hosts = ["smtp://top.example"]\nqualify_domain = "lan"\nhostname = "lan"\nlog = "none"\n'


@pytest.mark.parametrize(
    ("given", "sentence"),
    [(None, "no address to send al's mail as"), ("bob", "the sender 'bob' has no domain")],
)
def test_without_any_domain_there_is_no_sender(
    build: Build, monkeypatch: pytest.MonkeyPatch, given: str | None, sentence: str
) -> None:
    """muawrap.toml(5): the failure names the keys; a domain without a dot is none."""
    if given:  # a bare name needs a domain only where qualify_domain has none at all
        monkeypatch.setattr(config, "_mail_name", lambda: "")
    top = NO_DOMAIN if given is None else NO_DOMAIN.replace('qualify_domain = "lan"\n', "")
    with pytest.raises(Failure) as caught:
        build("", top=top, sender=given)
    assert caught.value.what == sentence
    assert caught.value.advice.startswith("set from, or qualify_domain, in ")


def test_a_sender_that_cannot_be_read_is_refused(build: Build) -> None:
    """B3: before any connection."""
    with pytest.raises(Failure, match="cannot read the sender given with -f, 'a b@c': two words"):
        build("", sender="a b@c")


def test_a_login_that_is_no_atom_is_quoted(build: Build) -> None:
    """F3: CORP\\al is a login where winbind is."""
    assert senders(build("", who=Caller("CORP\\al", ""))) == ['"CORP\\\\al"@q.example']
    assert senders(build("", who=Caller("first.last", ""))) == ["first.last@q.example"]
    assert senders(build("", who=Caller("4711", ""))) == ["4711@q.example"]


def test_each_host_has_its_own_from(build: Build) -> None:
    """muawrap.toml(5): route, host, account, top."""
    top = """
smart_hosts = [{ url = "smtp://one.example", from = "one@h.example" }, "smtp://two.example"]
from = "top@h.example"
log = "none"
"""
    assert senders(build("", top=top)) == ["one@h.example", "top@h.example"]
    account = '[[account]]\nusers = ["al"]\nfrom = "account@h.example"\n'
    assert senders(build(account, top=top)) == ["one@h.example", "account@h.example"]
    route = account + '[[route]]\nrecipients = ["*"]\nfrom = "route@h.example"\n'
    assert senders(build(route, top=top)) == ["route@h.example", "route@h.example"]


# -- accounts and routes ---------------------------------------------------------------------------------------------

ACCOUNTS = """
[[account]]
match = ["*@work.example", "boss@*"]
smart_hosts = ["smtp://work.example"]
from = "w@work.example"
allowed_from = ["*@work.example"]

[[account]]
users = ["www-data", "4711"]
smart_hosts = ["smtp://shop.example"]
"""


@pytest.mark.parametrize(
    ("given", "from_", "who", "expected"),
    [
        (None, "", "al", "top.example:25"),
        ("x@work.example", "", "al", "work.example:25"),
        ("X+y@Work.Example", "", "al", "work.example:25"),
        ("boss+x@y.example", "", "al", "work.example:25"),
        (None, "X <x@work.example>", "al", "work.example:25"),
        ("a@x.example", "x@work.example", "al", "top.example:25"),  # From: counts only without -f
        ("", "x@work.example", "al", "top.example:25"),
        (None, "", "www-data", "shop.example:25"),
        (None, "", "4711", "shop.example:25"),  # a uid that has no name
        ("x@work.example", "", "www-data", "work.example:25"),  # the first that matches
    ],
)
def test_the_first_account_that_matches_sender_or_login_holds(
    build: Build, given: str | None, from_: str, who: str, expected: str
) -> None:
    """muawrap.toml(5), [[account]]."""
    built = build(ACCOUNTS, header=f"From: {from_}" if from_ else "", sender=given, who=Caller(who, ""))
    assert hosts(built) == [expected]


def test_a_bare_sender_that_nothing_completes_does_not_bring_in_the_from_header(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """muawrap.toml(5): From: matches an account only without -f."""
    monkeypatch.setattr(config, "_mail_name", lambda: "")
    top = FROM + 'smart_hosts = ["smtp://top.example"]\nlog = "none"\n'
    assert hosts(build(ACCOUNTS, header="From: x@work.example", top=top, sender="bob")) == ["top.example:25"]


def test_allowed_from_is_the_accounts_where_it_has_one(build: Build) -> None:
    """muawrap.toml(5), [[account]]."""
    toml = 'allowed_from = ["*@top.example"]\n' + ACCOUNTS
    assert senders(build(toml, sender="b@work.example")) == ["b@work.example"]
    none = toml + "allowed_from = []\n"
    assert senders(build(FROM + none, sender="b@top.example", who=Caller("www-data", ""))) == ["me@s.example"]
    assert senders(build(FROM + toml, sender="b@top.example", who=Caller("www-data", ""))) == ["b@top.example"]


ROUTES = """
[[route]]
recipients = ["no@corp.example", "*@gone.example"]
unroutable = "closed down"

[[route]]
recipients = ["*@corp.example"]
smart_hosts = ["smtp://corp.example"]

[[route]]
recipients = ["*@*.example"]
add_headers = ["X-Route: rest"]
"""


@pytest.mark.parametrize(
    ("recipients", "expected"),
    [
        ("a@corp.example b@CORP.example", "corp.example:25"),
        ("a@sub.corp.example", "top.example:25"),
        ("a@y.example b@z.example", "top.example:25"),
        ("a@b.test", "top.example:25"),
    ],
)
def test_the_first_route_that_matches_the_recipient_holds(build: Build, recipients: str, expected: str) -> None:
    """muawrap.toml(5), [[route]]; B4: a different domain is no disagreement."""
    assert hosts(build(ROUTES, recipients)) == [expected]


def test_a_routes_hosts_come_before_an_accounts(build: Build) -> None:
    """muawrap.toml(5): host list by route, else account, else top."""
    assert hosts(build(ROUTES + ACCOUNTS, "a@corp.example", sender="x@work.example")) == ["corp.example:25"]


def test_all_that_are_unroutable_are_named_with_their_trails(build: Build) -> None:
    """A7, B3, D5."""
    with pytest.raises(Failure) as caught:
        build(ROUTES, "a@y.example no@corp.example b@gone.example")
    assert caught.value.sentence() == "<no@corp.example>: closed down; <b@gone.example>: closed down"


def test_an_unroutable_recipient_is_told_with_the_way_that_led_there(tmp_path: Path) -> None:
    """D5: and not at all where it stands in somebody else's .forward."""
    file = tmp_path / "muawrap.toml"
    file.write_text(TOP + ROUTES)
    settings = config.load(str(file), {})
    message = Message((), Body())
    for recipient, told in (
        (Recipient("a@gone.example", ("root", "ops"), "<a@gone.example>"), "root -> ops -> <a@gone.example>"),
        (Recipient("a@gone.example", ("alice",), "alice (by alice's .forward)"), "alice (by alice's .forward)"),
    ):
        with pytest.raises(Failure) as caught:
            transaction.build(Invocation(), settings, message, (recipient,), AL)
        assert caught.value.what == f"{told}: closed down"


def test_without_a_smart_host_the_key_is_named(build: Build) -> None:
    """B3."""
    with pytest.raises(Failure, match="no smart host is configured in "):
        build("", top='log = "none"\n')


# -- B4: all recipients agree ----------------------------------------------------------------------------------------

OTHER = '\n[[route]]\nrecipients = ["*@b.example"]\n'
PASSWORD = "s3cr3t"

DISAGREEING = [
    (
        OTHER + 'smart_hosts = ["smtp://b.example", "smtp://c.example"]',
        "<x@a.example> would go to top.example:25, <y@b.example> to b.example:25 then c.example:25",
    ),
    (
        FROM + OTHER + 'from = "b@s.example"',
        "<x@a.example> would be sent as <me@s.example>, <y@b.example> as <b@s.example>",
    ),
    (
        OTHER + 'from = "b@s.example"',
        "<x@a.example> would be sent as <al@q.example>, <y@b.example> as <b@s.example>",
    ),
    (
        OTHER + 'add_headers = ["X-Route: b"]\nremove_headers = ["Subject"]',
        "<x@a.example> and <y@b.example> would get different header lines: Subject, X-Route",
    ),
    (
        OTHER + f'smart_hosts = ["smtp://top.example"]\nauth = {{ user = "u", password = "{PASSWORD}" }}',
        "<x@a.example> and <y@b.example> need different settings at top.example:25: auth",
    ),
    (
        OTHER + 'smart_hosts = [{ url = "smtp://top.example", tls = { policy = "none" } }]',
        "<x@a.example> and <y@b.example> need different settings at top.example:25: tls",
    ),
    (
        OTHER + 'smart_hosts = [{ url = "submission://top.example:25", timeouts = { data = 7 } }]',
        "<x@a.example> and <y@b.example> need different settings at top.example:25: scheme, tls, timeouts",
    ),
]


@pytest.mark.parametrize(("toml", "about"), DISAGREEING)
def test_recipients_that_disagree_are_named_and_so_is_what_about(build: Build, toml: str, about: str) -> None:
    """B4: both sides, and never a secret."""
    with pytest.raises(Failure) as caught:
        build(toml, "x@a.example y@b.example", "Subject: x")
    assert caught.value.what == f"one transaction cannot serve both: {about}"
    assert PASSWORD not in caught.value.what + caught.value.advice
    assert "[[route]]" in caught.value.advice


def test_a_null_sender_disagrees_about_the_from_header_only(build: Build) -> None:
    """B4: <> is one sender, but a From: is added."""
    with pytest.raises(Failure, match="would get different header lines: From"):
        build(OTHER + 'from = "b@s.example"', "x@a.example y@b.example", sender="")


AGREEING = [
    OTHER + 'smart_hosts = ["smtp://top.example"]',
    OTHER + 'smart_hosts = ["smtp://top.example:25"]',
    OTHER + 'smart_hosts = [{ url = "smtp://top.example", from = "me@s.example" }]\nfrom = "al@q.example"',
    OTHER + 'remove_headers = ["X-Not-There"]',
    OTHER + 'from = "al@q.example"',
    OTHER + 'add_headers = ["X-Same: 1"]\n[[route]]\nrecipients = ["*@a.example"]\nadd_headers = ["X-Same: 1"]',
]


@pytest.mark.parametrize("toml", AGREEING)
def test_equal_values_agree_wherever_they_come_from(build: Build, toml: str) -> None:
    """B4: what counts is what each host would get."""
    built = build(toml, "x@a.example y@b.example", "From: al@q.example")
    assert [recipient.address for recipient in built.recipients] == ["x@a.example", "y@b.example"]


def test_a_sender_that_passes_everywhere_agrees_with_itself(build: Build) -> None:
    """B4: -f may pass for both routes, whose `from` differ and are not used."""
    toml = FROM + 'allowed_from = ["f@x.example"]\n' + OTHER + 'from = "b@s.example"'
    built = build(toml, "x@a.example y@b.example", "From: f@x.example", sender="f@x.example")
    assert senders(built) == ["f@x.example"]


def test_ten_thousand_recipients_are_compared_by_route(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """B1, D6: header blocks are long, and routes are few."""
    compared = Counted(transaction._compared)
    monkeypatch.setattr(transaction, "_compared", compared)
    routes = "".join(f'[[route]]\nrecipients = ["*@r{number}.example"]\n' for number in range(50))
    names = " ".join(f"u{number}@r{number % 50}.example" for number in range(10_000))
    assert len(build(routes, names).recipients) == 10_000
    assert compared.calls == 2 * 49


# -- what is in the transaction --------------------------------------------------------------------------------------


def test_the_message_id_is_one_for_all_hosts_and_routes(build: Build) -> None:
    """A3, B4: so that it can be looked for; its domain is the sender's."""
    toml = '[[route]]\nrecipients = ["x@y.example"]\n'
    top = TOP.replace(
        '["smtp://top.example"]', '["smtp://a.example", { url = "smtp://b.example", from = "b@c.example" }]'
    )
    built = build(toml, "x@y.example z@y.example", top=top)
    assert built.message_id.endswith("@q.example>")
    assert all(f"Message-ID: {built.message_id}\n".encode() in way.header for way in built.ways)


@pytest.mark.parametrize(
    ("toml", "text", "gateway", "expected"),
    [
        ("", "Message-ID: <own@x>", False, "<own@x>"),
        ("", "Message-ID:", False, ""),
        ("", "", True, ""),
        ('[[route]]\nrecipients = ["*"]\nadd_headers = ["Message-ID: <r@x>"]\n', "", False, "<r@x>"),
        ('[[route]]\nrecipients = ["*"]\nremove_headers = ["Message-ID"]\n', "Message-ID: <own@x>", True, ""),
    ],
)
def test_the_log_gets_the_message_id_that_leaves(
    build: Build, toml: str, text: str, gateway: bool, expected: str
) -> None:
    """A3."""
    assert build(toml, header=text, gateway=gateway).message_id == expected


@pytest.mark.parametrize(
    ("toml", "invocation", "expected"),
    [
        ("", {}, "From: Al Bundy <al@q.example>"),
        ("", {"full_name": "X"}, "From: X <al@q.example>"),
        ("", {"sender": "f@x.example"}, "From: f@x.example"),
        ("", {"sender": "f@x.example", "full_name": "Some Name"}, "From: Some Name <f@x.example>"),
        (FROM, {}, "From: Al Bundy <me@s.example>"),
        (FROM, {"sender": "f@x.example"}, "From: Al Bundy <me@s.example>"),
        (FROM, {"sender": ""}, "From: Al Bundy <me@s.example>"),
        ("", {"sender": ""}, "From: Al Bundy <al@q.example>"),
        ("", {"gateway": True}, ""),
    ],
)
def test_a_missing_from_is_the_sender_under_the_callers_name(
    build: Build, toml: str, invocation: dict[str, object], expected: str
) -> None:
    """F3: but the passwd name is not put on the address that -f names (as measured on Exim)."""
    assert header(build(toml, **invocation), "From") == expected


def test_a_from_header_that_may_not_pass_is_rewritten_and_noted(build: Build) -> None:
    """F10."""
    built = build(FROM, header="From: Bob <b@x.example>")
    assert header(built, "From") == "From: Bob <me@s.example>"
    assert header(built, "Reply-To") == "Reply-To: b@x.example"
    assert built.ways[0].rewritten


@pytest.mark.parametrize("toml", ["", FROM + "rewrite_from_header = false\n", FROM + 'allowed_from = ["b@*"]\n'])
def test_a_from_header_that_may_pass_is_kept(build: Build, toml: str) -> None:
    """F10: always while `from` is empty, or where rewrite_from_header is off."""
    built = build(toml, header="From: Bob <b@x.example>")
    assert header(built, "From") == "From: Bob <b@x.example>"
    assert not built.ways[0].rewritten


def test_each_host_gets_the_from_header_that_may_pass_there(build: Build) -> None:
    """F10: one text, a header block for each host."""
    top = TOP.replace(
        '["smtp://top.example"]', '["smtp://a.example", { url = "smtp://b.example", from = "b@c.example" }]'
    )
    one, two = build("", header="From: al@q.example", top=top).ways
    assert (one.rewritten, two.rewritten) == (False, True)
    assert two.header.startswith(b'From: "al@q.example" <b@c.example>\n')


def test_bare_header_addresses_get_qualify_domain_else_the_hostname(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F9."""
    assert header(build("", header="To: bob"), "To") == "To: bob@q.example"
    monkeypatch.setattr(config, "_mail_name", lambda: "")
    top = 'smart_hosts = ["smtp://top.example"]\nhostname = "box.lan"\nlog = "none"\n'
    assert header(build(FROM, header="To: bob", top=top), "To") == "To: bob@box.lan"


@pytest.mark.row("I4")
@pytest.mark.parametrize(
    ("name", "known"),
    [("box", "box"), ("a\nBcc: x@y.example", "localhost"), ("a b", "localhost"), ("\udcff", "localhost")],
)
def test_a_hostname_that_is_none_is_in_no_header(
    build: Build, monkeypatch: pytest.MonkeyPatch, name: str, known: str
) -> None:
    """F3, F9: root may give the machine any octets for a name."""
    monkeypatch.setattr(config, "_mail_name", lambda: "")
    monkeypatch.setattr("os.uname", lambda: SimpleNamespace(nodename=name))
    built = build("", header="To: bob", top='smart_hosts = ["smtp://top.example"]\nlog = "none"\n', sender="")
    assert header(built, "To") == f"To: bob@{known}"
    assert built.message_id.endswith(f"@{known}>")


@pytest.mark.row("I10")
@pytest.mark.parametrize(
    ("recipients", "sender", "asked", "expected"),
    [
        ("x@y.example", None, False, False),
        ("x@y.example", None, True, True),
        ("j\u00f6rg@y.example", None, False, True),
        ("x@y.example", "j\u00f6rg@y.example", False, True),
    ],
)
def test_smtputf8_is_needed_for_local_parts_beyond_ascii(
    build: Build, recipients: str, sender: str | None, asked: bool, expected: bool
) -> None:
    """F7."""
    assert build("", recipients, sender=sender, utf8=asked).utf8 is expected


def test_what_the_caller_asked_for_travels_on(build: Build) -> None:
    """E6: DSN; and the configuration's own."""
    built = build('dial_delay = 3\ntempfail = "next-host"\n', notify="NEVER", returns="HDRS", envelope_id="x")
    assert (built.notify, built.returns, built.envelope_id) == ("NEVER", "HDRS", "x")
    assert (built.dial_delay, built.tempfail) == (3, "next-host")


def test_nobody_is_no_recipient(build: Build) -> None:
    """A1: no message is accepted for nobody."""
    with pytest.raises(Failure, match="no recipient"):
        build("", "")


@pytest.mark.parametrize(
    ("patterns", "address", "expected"),
    [
        (["*"], "a@b", True),
        (["*@B"], "a@b", True),
        (["a@b"], "a+x+y@b", True),
        (["a+x@b"], "a@b", False),
        (["+x@b"], "+x@b", True),
        (["[ab]@b"], "a@b", False),
        (["a@b", "c@d"], "c@d", True),
        ([".*@b"], "a@b", False),
        ([], "a@b", False),
        (["a@b"], "a@b.c", False),
        (["a@b"], "xa@b", False),
    ],
)
def test_a_glob_knows_star_and_question_mark_only(patterns: Sequence[str], address: str, expected: bool) -> None:
    """allowed_from, match: without case, the whole address, with +detail or without."""
    assert transaction._matches(tuple(patterns), address) is expected


def test_the_caller_is_who_the_passwd_file_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """F3: never the environment; a uid nobody knows is its digits."""
    monkeypatch.setenv("USER", "mallory")
    monkeypatch.setenv("LOGNAME", "mallory")
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert transaction.caller().login == "root"
    monkeypatch.setattr(os, "getuid", lambda: 3_999_999_999)
    assert transaction.caller() == Caller("3999999999", "")
