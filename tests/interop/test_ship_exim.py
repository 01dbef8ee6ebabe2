"""A real Exim at the other end, and as the mail system that takes reports."""

from __future__ import annotations

from pathlib import Path

import pytest

from muawrap.holding.held import Addressee
from tests.support.exim import Exim
from tests.support.shipping import host, numbered


def test_many_messages_go_over_one_connection(tmp_path: Path) -> None:
    """INTERMITTENT 6.4, 7: counted in Exim's own log."""
    with Exim(tmp_path) as exim:
        made = host(tmp_path, exim)
        for one in numbered(30):
            made.put(one, "a@x.example", '"b b"@x.example', text=b".\n..\n\xe4\n")
        tally = made.ship()
        assert (tally.sent, tally.kept) == (30, 0)
        arrived = exim.messages()
        assert {message.text[-8:] for message in arrived} == {b"\n\n.\n..\n\xe4\n"[-8:]}
        assert [message.recipients for message in arrived] == [["a@x.example", '"b b"@x.example']] * 30
        assert [message.parsed["Subject"] for message in arrived] == list(numbered(30))
        assert exim.log.count("SMTP connection from (client.example)") == 1


def test_a_host_that_takes_so_many_and_no_more_is_called_again(tmp_path: Path) -> None:
    """RULES C8: 421 instead of the next one's MAIL (smtp_accept_max_per_connection) is no trouble of the host's."""
    with Exim(tmp_path, extra="smtp_accept_max_per_connection = 10\n") as exim:
        made = host(tmp_path, exim)
        for one in numbered(25):
            made.put(one)
        tally = made.ship()
        assert (tally.sent, tally.kept, tally.failure) == (25, 0, None)
        assert len(exim.messages()) == 25


@pytest.mark.parametrize("mode", ["", ', "-bS"'])
def test_exim_takes_the_report(tmp_path: Path, mode: str) -> None:
    """RFC 3464: from the null sender to the sender, with arguments and as batch SMTP; the others got it."""
    (tmp_path / "host").mkdir()
    (tmp_path / "local").mkdir()
    with Exim(tmp_path / "host", refuse_recipients=["no@x.example"]) as exim, Exim(tmp_path / "local") as mta:
        made = host(tmp_path, exim)
        text = made.file.read_text().replace(
            f'["{tmp_path / "mta"}"]', f'["{mta.path}", "-C", "{mta.folder / "exim.conf"}"{mode}]'
        )
        made.file.write_text(text)
        made.reload()
        made.put("one", "you@x.example", Addressee("no@x.example", original="rfc822;no@y.example"), returns="FULL")
        tally = made.ship()
        assert (tally.sent, tally.refused, tally.kept, tally.failure) == (1, 1, 0, None)
        [arrived] = exim.messages()
        assert arrived.recipients == ["you@x.example"]
        [report] = mta.messages()
    assert (report.sender, report.recipients) == ("", ["me@client.example"])
    assert report.parsed.get_content_type() == "multipart/report"
    assert b"Original-Recipient: rfc822; no@y.example\n" in report.body
    assert b"Diagnostic-Code: smtp; 550 no such user here\n" in report.body
    assert b"\nSubject: one\n\nHello.\n" in report.body
