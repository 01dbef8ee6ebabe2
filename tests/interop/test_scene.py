"""A provider, a customer who comes and goes, and the programs they really have: Exim at both ends, `muawrap` between.

INTERMITTENT 6.2, 6.4, 6.5 and 6.7, with etc/exim/holding.conf as it is shipped.
"""

from __future__ import annotations

import email
import itertools
import re
import subprocess
import time
from pathlib import Path

import pytest

from muawrap.holding.rules import retry, schedule
from tests.support.everybody import CLOCK
from tests.support.exim import PATIENCE, Exim
from tests.support.isp import Isp, isp
from tests.support.server import Server

HOSTS = {"cheshire.example": "cheshire", "shop.cheshire.example": "cheshire"}
RULES = "F,2h,15m; G,16h,1h,1.5; F,3d,8h"
NOT_BEFORE = (1, 9, 10, 11, 15, 16, 22)
"""Of the tries by RULES, first and last of each set: a second earlier nothing is tried."""


def etrn(provider: Isp, customer: Exim, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """What the customer runs when the line comes up."""
    config = folder / "customer.toml"
    config.write_text(
        f'smart_hosts = ["smtp://127.0.0.1:{provider.port}"]\nlog = "none"\n[hold.isp]\n'
        f'to = "smtp://127.0.0.1:{provider.port}"\netrn_names = {list(HOSTS)}\n'
    )
    config.chmod(0o600)
    words = ["etrn", "-C", str(config), "-b", "--own-port", str(customer.port), "isp"]
    return subprocess.run([str(provider.folder / "bin" / "muawrap"), *words], env={}, capture_output=True, check=False)


def test_five_messages_wait_for_a_customer_who_asks_for_them(tmp_path: Path) -> None:
    """INTERMITTENT 6.4: off line, they are held and tried; ETRN brings all of them over one connection."""
    with Exim(tmp_path) as customer:
        customer.stop()
        to = {"cheshire": f"smtp://127.0.0.1:{customer.port}"}
        with isp(HOSTS, to, keys="min_interval = 0\n") as provider:
            sent = [
                (f"{number}@client.example", f"al@{domain}") for number, domain in zip(range(5), itertools.cycle(HOSTS))
            ]
            for sender, recipient in sent:
                provider.send(sender, [recipient])
            provider.logged("Completed", 5)
            done = provider.muawrap("ship", "cheshire")
            assert (done.returncode, len(provider.files("cheshire"))) == (75, 5)
            assert b"connection refused" in done.stderr
            shown = provider.muawrap("held", "cheshire").stdout.decode()
            assert "connection refused" in shown
            assert all(sender in shown and recipient in shown for sender, recipient in sent)
            state = provider.spool / "cheshire" / "state"
            assert state.exists()

            customer.start()
            customer.forget()
            done = etrn(provider, customer, tmp_path)
            assert (done.returncode, done.stderr) == (0, b"")
            assert done.stdout == b"cheshire.example 250 OK\nshop.cheshire.example 250 OK\n"
            provider.logged(" sent .*by=", 5, ours=True)
            assert [(one.sender, *one.recipients) for one in customer.messages()] == sent
            _settled(customer)
            assert len(re.findall(r"connection from \(mx.isp.example\) \S+ closed by QUIT", customer.log)) == 1
            assert provider.files("cheshire") == []
            assert not state.exists()


def _settled(customer: Exim) -> None:
    """The session of the provider has ended, and the log says so."""
    deadline = time.monotonic() + PATIENCE
    while "closed by QUIT" not in customer.log:
        assert time.monotonic() < deadline, customer.log
        time.sleep(0.005)  # between two looks at a file


@pytest.mark.row("H11")
def test_a_host_that_is_down_for_three_days_is_tried_by_the_rules_and_given_up() -> None:
    """INTERMITTENT 3.3, 6.5: at each instant of the rules and at no other; then a bounce to the sender, by Exim."""
    with Server({"greeting": "421 4.3.2 moving house"}) as sink:
        to = {"cheshire": f"smtp://127.0.0.1:{sink.port}"}
        with isp(HOSTS, to, keys=f'retry = "{RULES}"\nmin_interval = 0\n') as provider:
            provider.send("me@client.example", ["al@cheshire.example", "eve@shop.cheshire.example"])
            provider.logged("Completed")
            [message] = provider.files("cheshire")
            came = message.stat().st_mtime

            def ship_at(moment: float) -> tuple[int, int]:
                """The status, and how many connections there have been by then."""
                provider.environment = {CLOCK: str(moment)}
                done = provider.muawrap("ship", "cheshire")
                print(f"{moment - begin:+}: {done}")  # for whoever looks into a failure
                return done.returncode, len(sink.finished())

            begin = int(came) + 1
            instants = list(_instants(begin - came))
            assert (len(instants), instants[-1]) == (23, 284512)
            for number, instant in enumerate(instants):
                if number in NOT_BEFORE:
                    assert ship_at(begin + instant - 1) == (75, number)
                status = 75 if instant < instants[-1] else 69
                assert ship_at(begin + instant) == (status, number + 1)
            assert provider.files("cheshire") == []
            assert ship_at(begin + instants[-1] + 10 * 86_400) == (0, len(instants))
            provider.logged(r"=> me <me@client.example> .*T=mailbox")

            notice = email.message_from_string(provider.mailbox.partition("\n")[2])
            assert notice["Return-Path"] is None
            assert notice["To"] == "<me@client.example>"
            assert notice.get_content_type() == "multipart/report"
            status_part = notice.get_payload(1).as_string()  # type: ignore[union-attr]
            assert re.findall(r"Final-Recipient: rfc822; ?(.*)", status_part) == [
                "al@cheshire.example",
                "eve@shop.cheshire.example",
            ]
            assert "421" in notice.as_string()
            assert "moving house" in notice.as_string()
            assert "Subject: hi" in notice.as_string()
            provider.logged(" <= <> ")


def _instants(waited: float) -> list[float]:
    """When a message that had waited so long at the first try is tried, the last one being when it is given up."""
    rule = retry.parse(RULES).find("127.0.0.1")
    found = []
    for instant, _, _ in schedule.tries(rule, 10 * 86_400):
        found.append(instant)
        if waited + instant > schedule.cutoff(rule):
            break
    return found
