"""Recipients in, final recipients out: the expander in a world made of tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pytest

from muawrap.failure import REFUSED, TRY_AGAIN, Failure
from muawrap.mail import Recipient
from muawrap.routing import aliases, redirect
from muawrap.routing.members import Entry, members
from muawrap.routing.redirect import Expansion, World
from tests.support.counting import Counted

ALICE, BOB = 1001, 1002


def world(
    file: str = "",
    forward: Mapping[str, str] | None = None,
    include: Mapping[str, str] | None = None,
    *,
    admin: str = "",
    qualify_domain: str = "q.example",
    local_domains: Collection[str] = (),
    sees: Collection[str] | None = None,  # None: all of them, as root does
) -> World:
    """A world whose files are texts; a text that begins with "!" is a failure to read it, with an advice."""
    table = aliases.parse("/etc/aliases", file).entries

    def alias(name: str) -> Entry | None:
        number, text = table.get(name.lower(), (0, ""))
        return Entry(text, f"/etc/aliases line {number}", 0) if number else None

    def forwarded(name: str) -> Entry | None:
        text = (forward or {}).get(name.lower())
        if text is None:
            return None
        if text.startswith("!"):
            raise Failure(text[1:], lead=TRY_AGAIN, advice=f"chmod go-w /home/{name}/.forward")
        return Entry(text, f"/home/{name.lower()}/.forward", ALICE, name.lower())

    def included(path: str, within: Entry) -> Entry:
        if path not in (include or {}):
            raise Failure(f"{path} does not exist", advice=f"write {path}")
        return Entry((include or {})[path], path, within.owner, within.private)

    return World(
        aliases=alias,
        forward=forwarded,
        include=included,
        host_local=frozenset({"localhost", "box", "box.lan"}),
        local_domains=frozenset(local_domains),
        admin=admin,
        qualify_domain=qualify_domain,
        sees=lambda user: sees is None or user in sees,
    )


def addresses(expansion: Expansion) -> list[str]:
    return [recipient.address for recipient in expansion.recipients]


def expand(given: str, where: World) -> list[str]:
    return addresses(redirect.expand(given.split(), where))


def fails(given: str | Sequence[str], where: World) -> Failure:
    with pytest.raises(Failure) as caught:
        redirect.expand(given.split() if isinstance(given, str) else given, where)
    return caught.value


# -- alias file, addresses given, who gets it; @q is q.example --------------------------------------------------------

EXPANDED = [
    # D1: names, without case, the first entry wins
    ("", "root", "root@q"),
    ("", "x@y.example", "x@y.example"),
    ("root: al@x.example", "root", "al@x.example"),
    ("ROOT: al@x.example", "Root", "al@x.example"),
    ("root: a@x.example\nroot: b@x.example", "root", "a@x.example"),
    ("root: ops\nops: a@x.example, b@x.example", "root", "a@x.example b@x.example"),
    # D1: addresses of this host are names; others are none
    ("root: al@x.example", "root@localhost root@BOX root@box.lan", "al@x.example"),
    ("root: al@x.example", "root@y.example", "root@y.example"),
    ("", "bob@localhost", "bob@q"),
    ("", "bob@LocalHost bob@box.lan bob", "bob@q"),
    ("a: bob@localhost", "a", "bob@q"),
    # D2: self-alias, loops, as measured on Exim
    ("root: root, x@y.example", "root", "root@q x@y.example"),
    ("root: ROOT, x@y.example", "root", "ROOT@q x@y.example"),
    ("root: root@localhost, x@y.example", "root", "root@q x@y.example"),
    ("root: \\root, x@y.example", "root", "root@q x@y.example"),
    ("root: \\root, x@y.example", "root x@y.example", "root@q x@y.example"),
    ("a: b\nb: a", "a", "a@q"),
    ("a: b\nb: a", "b", "b@q"),
    ("a: b\nb: a", "a b", "a@q"),
    ("c: d\nd: c, e@z.example", "c", "c@q e@z.example"),
    ("self: self", "self", "self@q"),
    ("a: b\nb: c\nc: a, b, c", "a", "a@q b@q c@q"),
    # D2: \name stops aliases
    ("a: \\b\nb: x@y.example", "a", "b@q"),
    ("a: \\b, b\nb: x@y.example", "a", "b@q x@y.example"),
    ("a: \\b@localhost\nb: x@y.example", "a", "b@q"),
    # D2: an empty right-hand side counts as absent
    ("root:", "root", "root@q"),
    ("root: # nobody", "root", "root@q"),
    ("root:\nroot: x@y.example", "root", "root@q"),
    # B1: a recipient counts once; local parts exactly, domains without case
    ("", "x@y.example X@y.example x@Y.EXAMPLE", "x@y.example X@y.example"),
    ("", "Bob bob", "Bob@q bob@q"),
    ("a: x@y.example\nb: x@y.example, a", "b a x@y.example", "x@y.example"),
    # D4: an entry nobody uses hurts nobody
    ("good: x@y.example\nbad line\nbad: two words\nworse: |/bin/x", "good", "x@y.example"),
    ('"a b": x@y.example', '"a_b" "c"', "a_b@q c@q"),
]


@pytest.mark.parametrize(("file", "given", "expected"), EXPANDED)
def test_an_alias_file_leads_to_the_final_recipients(file: str, given: str, expected: str) -> None:
    """B1, D1, D2, D4."""
    given = given.replace('"', "")
    expected = " ".join(one + ".example" if one.endswith("@q") else one for one in expected.split())
    assert expand(given, world(file)) == expected.split()


def test_an_address_in_a_local_domain_is_looked_up_and_keeps_its_domain() -> None:
    """D1: local_domains are beside bare names; what nothing redirects stays as it is."""
    where = world("bob: x@y.example", {"carol": "c@y.example"}, local_domains={"corp.example"})
    assert expand("Bob@Corp.example carol@corp.example", where) == ["x@y.example", "c@y.example"]
    assert expand("dave@Corp.example", where) == ["dave@Corp.example"]
    assert expand("bob@other.example", where) == ["bob@other.example"]


def test_an_alias_to_its_own_address_in_a_local_domain_is_final() -> None:
    """D2: `bob: bob@corp.example` is an ancestor at the second look."""
    where = world("bob: bob@corp.example", local_domains={"corp.example"})
    assert expand("bob", where) == ["bob@corp.example"]
    assert expand("bob@corp.example", where) == ["bob@corp.example"]


def test_admin_is_not_for_local_domains() -> None:
    """D1: for bare and host-local names only."""
    where = world(admin="al@x.example", local_domains={"corp.example"})
    assert expand("dave@corp.example", where) == ["dave@corp.example"]
    assert expand("dave dave@localhost", where) == ["al@x.example"]


@pytest.mark.parametrize(
    ("file", "admin", "given", "expected"),
    [
        ("", "al@x.example", "root bob nobody@localhost", "al@x.example"),
        ("root: r@x.example", "al@x.example", "root bob", "r@x.example al@x.example"),
        ("al: a@x.example, b@x.example", "al", "root", "a@x.example b@x.example"),
        ("", "al", "root", "al@q.example"),
        ("", "al", "al", "al@q.example"),
        ("", "AL@localhost", "al", "AL@q.example"),
        ("ops: x", "ops", "root", "x@q.example"),  # x has no alias, and admin has been asked
        ("ops: x, root", "ops", "root", "x@q.example root@q.example"),
        ("root:", "al@x.example", "root", "al@x.example"),
        ("root: \\bob", "al@x.example", "root", "al@x.example"),
        ("ops: \\bob", "ops", "bob", "bob@q.example"),
        ("x: \\bob\nops: \\bob", "ops", "x", "bob@q.example"),  # not lost between the two
        ("admin: al@x.example", "admin", "root admin", "al@x.example"),
        ("", "al@x.example", "admin", "al@x.example"),  # a user of that name is a user like others
    ],
)
def test_admin_gets_what_nobody_else_does_and_is_expanded_once(
    file: str, admin: str, given: str, expected: str
) -> None:
    """D1: neither alias nor .forward: admin; below it, qualify."""
    assert expand(given, world(file, admin=admin)) == expected.split()


def test_a_forward_comes_after_the_aliases_and_before_admin() -> None:
    """D1."""
    where = world("a: x@y.example\nb:", {"a": "1@y.example", "b": "2@y.example", "c": "# empty"}, admin="al@x.example")
    assert expand("a", where) == ["x@y.example"]
    assert expand("b", where) == ["2@y.example"]
    assert expand("c", where) == ["al@x.example"]


def test_a_backslash_stops_a_forward_too() -> None:
    """D2: the usual way to keep a copy."""
    where = world("", {"al": "\\al, al@x.example"})
    assert expand("al", where) == ["al@q.example", "al@x.example"]


@pytest.mark.parametrize("domain", ["", "lan"])
@pytest.mark.parametrize("given", ["bob", "bob@localhost", "bob@box"])
def test_a_name_of_this_host_never_leaves_without_a_domain(given: str, domain: str) -> None:
    """D1: the sentence names the keys."""
    failure = fails(given, world(qualify_domain=domain))
    assert failure.what == f"{given}: bob is a name of this host, and there is no domain to send it to"
    assert failure.advice == "set qualify_domain, or admin, or make it an alias"


# -- what ends it ----------------------------------------------------------------------------------------------------

ENDED = [
    # D3
    ("root: ops\nops: |/bin/pager", "root -> ops -> |/bin/pager: /etc/aliases line 2 asks for a local delivery"),
    ("root: /var/mail/root", "root -> /var/mail/root: /etc/aliases line 1 asks for a local delivery"),
    ("root: x@y.example, :fail: no root, here", "root -> :fail: no root, here"),
    ("root: :fail:", "root -> :fail:"),
    ("root: a\na: :fail: gone\n  for good", "root -> a -> :fail: gone for good"),
    ("\n\nroot: ops, two words", "root -> two words: two words where an address should be (/etc/aliases line 3)"),
    ('root: "open', 'root -> "open: a quote is not closed (/etc/aliases line 1)'),
    ("root: bob@-", "root -> bob@-: '-' is no domain (/etc/aliases line 1)"),
    ("root: :no: such", "root -> :no: such: no such special member (/etc/aliases line 1)"),
    # D4
    ("root: :include:/missing", "root -> :include:/missing: /missing does not exist"),
    ("root: :include:list", "root -> :include:list: an included file needs a path from / (/etc/aliases line 1)"),
    ("root: :include:/pipe", "root -> :include:/pipe -> |/bin/x: /pipe asks for a local delivery"),
    ("root: :include:/bad", "root -> :include:/bad -> two words: two words where an address should be (/bad)"),
]


@pytest.mark.parametrize(("file", "sentence"), ENDED)
def test_what_cannot_be_delivered_ends_it_with_the_trail_and_its_text(file: str, sentence: str) -> None:
    """D3, D4, D5: from the address the caller gave to the culprit."""
    failure = fails("root x@y.example", world(file, include={"/pipe": "|/bin/x", "/bad": "two words"}))
    assert failure.sentence().startswith(sentence)
    assert failure.lead == REFUSED


def test_defer_is_temporary() -> None:
    """A3, D3."""
    failure = fails("root", world("root: :defer: on Monday"))
    assert (failure.what, failure.lead) == ("root -> :defer: on Monday", TRY_AGAIN)


def test_all_that_fail_are_named_and_what_is_final_outweighs() -> None:
    """A7, B3: one bad recipient fails all, and each bad one is told."""
    where = world("a: :defer: later\nb: :fail: never\nc: :defer: later")
    failure = fails("x@y.example a b", where)
    assert failure.sentence() == "a -> :defer: later; b -> :fail: never"
    assert failure.lead == REFUSED
    assert fails("a c", where).lead == TRY_AGAIN
    many = world("\n".join(f"n{number}: |x" for number in range(15)))
    assert fails(" ".join(f"n{number}" for number in range(15)), many).sentence().endswith("; and 5 more")


def test_a_local_delivery_advises_what_to_do() -> None:
    """D3."""
    assert fails("root", world("root: /dev/null")).advice == "give an address instead, or :blackhole: to discard"


# -- :blackhole: -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "given", "recipients", "discarded"),
    [
        ("root: :blackhole:", "root", "", ["root -> :blackhole:"]),
        ("root: a@x.example, :blackhole:, |/bin/x", "root", "", ["root -> :blackhole:"]),
        ("root: :blackhole:", "root x@y.example", "x@y.example", ["root -> :blackhole:"]),
        ("root: a, b\na: :blackhole:\nb: x@y.example", "root", "x@y.example", ["root -> a -> :blackhole:"]),
        ("root: :include:/hole, x@y.example", "root", "x@y.example", ["root -> :include:/hole -> :blackhole:"]),
    ],
)
def test_a_blackhole_discards_its_right_hand_side_and_is_noted(
    file: str, given: str, recipients: str, discarded: list[str]
) -> None:
    """D3."""
    expansion = redirect.expand(given.split(), world(file, include={"/hole": "a@b.example\n:blackhole:"}))
    assert addresses(expansion) == recipients.split()
    assert list(expansion.discarded) == discarded


# -- :include: -------------------------------------------------------------------------------------------------------

LISTS = {
    "/list": "# a list\na@x.example\nBob <b@x.example>, root\n",
    "/chain": ":include:/list\nc@x.example",
    "/loop": ":include:/loop\na@x.example",
    "/only-loop": ":include:/only-loop",
    "/ping": ":include:/pong\na@x.example",
    "/pong": ":include:/ping\nb@x.example",
    "/empty": "# nobody yet\n",
    "/empties": ":include:/empty, :include:/empty",
}


@pytest.mark.parametrize(
    ("file", "given", "expected"),
    [
        ("root: :include:/list", "root", "a@x.example b@x.example root@q.example"),
        ("root: :include:/chain", "root", "a@x.example b@x.example root@q.example c@x.example"),
        ("root: :include:/loop", "root", "a@x.example"),
        ("root: :include:/ping", "root", "b@x.example a@x.example"),
        ("a: :include:/list\nb: :include:/list", "a b", "a@x.example b@x.example root@q.example"),
        # a list that names nobody must not swallow the message (D2: it counts as absent)
        ("root: :include:/empty", "root", "root@q.example"),
        ("root: :include:/empties", "root", "root@q.example"),
        ("root: :include:/only-loop", "root", "root@q.example"),
        ("a: :include:/empty\nb: :include:/empty", "a b", "a@q.example b@q.example"),
        ("root: :include:/empty, x@y.example", "root", "x@y.example"),
    ],
)
def test_an_included_list_is_expanded_in_place(file: str, given: str, expected: str) -> None:
    """D2, D4."""
    assert expand(given, world(file, include=LISTS)) == expected.split()


# -- privacy (D5) ----------------------------------------------------------------------------------------------------


def test_the_trail_is_told_to_those_who_may_read_it() -> None:
    """D5: to the user and to root, all of it."""
    where = world("root: alice", {"alice": "secret@x.example, bob"})
    first, second = redirect.expand(["root"], where).recipients
    assert (first.trail, first.shown) == (("root", "alice"), "<secret@x.example>")
    assert first.story == "root -> alice -> <secret@x.example>"
    assert second.story == "root -> alice -> bob -> <bob@q.example>"


def test_what_stands_in_somebody_elses_forward_is_not_shown() -> None:
    """D5: neither the address nor what it leads to."""
    where = world("root: alice, x@y.example\nlist: z@y.example", {"alice": "secret@x.example, list"}, sees=())
    recipients = redirect.expand(["root"], where).recipients
    assert [recipient.address for recipient in recipients] == ["secret@x.example", "z@y.example", "x@y.example"]
    hidden = "root -> alice (by alice's .forward)"
    assert [recipient.shown for recipient in recipients] == [hidden, hidden, "<x@y.example>"]
    assert [recipient.story for recipient in recipients] == [hidden, hidden, "root -> <x@y.example>"]
    assert {recipient.trail for recipient in recipients} == {("root", "alice"), ("root",)}


def test_the_owner_sees_until_the_next_users_forward() -> None:
    """D5: alice forwards to bob; alice reads her own file and not his."""
    where = world("", {"alice": "bob", "bob": "carol", "carol": "secret@x.example"}, sees={"alice"})
    (recipient,) = redirect.expand(["alice"], where).recipients
    assert recipient.story == "alice -> bob (by bob's .forward)"


@pytest.mark.parametrize(
    "secret",
    [
        "|/bin/secret",
        "/secret",
        ":fail: secret",
        "secret secret",
        ":include:/secret",
        "secret",
        "mistrusted-secret",
        ":include:/list-of-secrets",
        "secret-loop",
    ],
)
def test_a_failure_in_somebody_elses_forward_tells_nothing_of_it(secret: str) -> None:
    """D5: neither sentence nor advice, and the trail stops at its user."""
    chain = "\n".join(f"secret{number}: secret{number + 1}" for number in range(60)) + "\nsecret-loop: secret0"
    where = world(
        f"ops: alice\nsecret: |x\n{chain}",
        {"alice": secret, "mistrusted-secret": "!secret is writable"},
        {"/list-of-secrets": "secret secret"},
        sees=(),
    )
    failure = fails("ops", where)
    assert failure.what == "ops -> alice (by alice's .forward) cannot be delivered"
    assert failure.advice == "alice and root are told why"
    assert "secret" not in failure.sentence() + failure.advice
    assert "secret" in (told := fails("ops", where._replace(sees=lambda user: True))).sentence() + told.advice


def test_a_deferral_in_somebody_elses_forward_stays_temporary() -> None:
    """A3, D5."""
    assert fails("alice", world("", {"alice": ":defer: secret"}, sees=())).lead == TRY_AGAIN


def test_a_blackhole_in_somebody_elses_forward_is_not_shown() -> None:
    """D5: the note says whose file it was."""
    where = world("", {"alice": "secret, :blackhole:"}, sees=())
    assert redirect.expand(["alice"], where).discarded == ("alice (by alice's .forward)",)


def test_a_forward_that_cannot_be_used_is_told_with_its_advice() -> None:
    """D5, D6: the caller gave that name, and mode and owner are no secret."""
    failure = fails("root", world("root: alice", {"alice": "!/home/alice/.forward is writable by others"}, sees=()))
    assert failure.what == "root -> alice: /home/alice/.forward is writable by others"
    assert failure.advice == "chmod go-w /home/alice/.forward"
    assert failure.lead == TRY_AGAIN


# -- bounds (D6) -----------------------------------------------------------------------------------------------------


def chain(length: int) -> str:
    return "\n".join(f"a{number}: a{number + 1}" for number in range(1, length)) + f"\na{length}: x@y.example"


def test_a_chain_may_be_50_deep_and_no_deeper() -> None:
    """D6."""
    assert expand("a1", world(chain(50))) == ["x@y.example"]
    failure = fails("a1", world(chain(51)))
    assert failure.what.startswith("a1 -> a2 -> ")
    assert failure.what.endswith("a50 -> a51: redirected more than 50 times")


@pytest.mark.row("F2")
def test_included_lists_count_as_depth() -> None:
    """D6: a chain of files is a chain."""
    lists = {f"/{number}": f":include:/{number + 1}" for number in range(60)}
    assert fails("a", world("a: :include:/0", include=lists)).what.endswith("redirected more than 50 times")
    assert expand("a", world("a: :include:/20", include={**lists, "/60": "x@y.example"})) == ["x@y.example"]


@pytest.mark.row("F2")
def test_doubling_aliases_take_linear_time() -> None:
    """D6: each of 40 names is there twice; 2^40 visits would not end."""
    lines = [f"a{number}: a{number + 1}, A{number + 1}, a{number + 1}" for number in range(40)]
    assert expand("a0", world("\n".join(lines) + "\na40: x@y.example")) == ["x@y.example"]


@pytest.mark.row("F2")
def test_doubling_lists_are_read_once() -> None:
    """D6: the same with files."""
    lists = {f"/{number}": f":include:/{number + 1}\n:include:/{number + 1}\n" for number in range(40)}
    assert expand("a", world("a: :include:/0", include={**lists, "/40": "x@y.example"})) == ["x@y.example"]


@pytest.mark.row("F2")
@pytest.mark.parametrize("form", ["n{}@x.example", "n{}"])
@pytest.mark.parametrize("where", ["given", "alias", "include"])
def test_ten_thousand_recipients_are_served_and_one_more_is_not(form: str, where: str) -> None:
    """D6, B1: distinct ones, in one transaction; those named twice count once."""

    def expanded(number: int) -> Expansion:
        names = [form.format(each) for each in (*range(number), 0)]
        if where == "given":
            return redirect.expand(names, world())
        text = ", ".join(names)
        if where == "alias":
            return redirect.expand(["all"], world(f"all: {text}"))
        return redirect.expand(["all"], world("all: :include:/all", include={"/all": text}))

    assert len(expanded(10_000).recipients) == 10_000
    with pytest.raises(Failure, match="more than 10000 recipients"):
        expanded(10_001)


def test_a_list_is_read_again_for_another_owner() -> None:
    """D6: what alice may include, root's alias file may not, whichever comes first."""

    def include(path: str, within: Entry) -> Entry:
        if within.owner not in (0, ALICE) or not within.private:
            raise Failure(f"{path} belongs to uid {ALICE}")
        return Entry("x@y.example", path, within.owner, within.private)

    where = world("all: :include:/list", {"alice": ":include:/list"})._replace(include=include)
    assert expand("alice", where) == ["x@y.example"]
    assert fails("alice all", where).what == f"all -> :include:/list: /list belongs to uid {ALICE}"


@pytest.mark.parametrize("form", ["u{}@x.example", "u{}"])
def test_cost_grows_with_distinct_addresses_and_files(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """D6: 100 lists of 1 000 members each are 100 000 edges, and 1 000 addresses."""
    given = [form.format(number) for number in range(1_000)]
    lists = {f"/{number}": "\n".join(given) for number in range(100)}
    where = world("all: " + ", ".join(f":include:{path}, :include:{path}" for path in lists), include=lists)
    aliased, forwarded, included = Counted(where.aliases), Counted(where.forward), Counted(where.include)
    split, noted = Counted(members), Counted(Recipient)
    monkeypatch.setattr(redirect, "members", split)
    monkeypatch.setattr(redirect, "Recipient", noted)
    expansion = redirect.expand(["all"], where._replace(aliases=aliased, forward=forwarded, include=included))
    local = 0 if "@" in form else 1_000
    assert len(expansion.recipients) == 1_000
    assert (aliased.calls, forwarded.calls) == (1 + local, local)
    assert included.calls == 100  # each file once
    assert split.calls == 101  # and the alias itself
    assert noted.calls == 1_000
