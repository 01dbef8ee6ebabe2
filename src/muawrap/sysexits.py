"""The exit status of sysexits.h that a Failure comes to, for those who ask for it (RULES A1)."""

from __future__ import annotations

import os
import re

from muawrap.failure import TRY_AGAIN, UNCERTAIN, Failure, Stage

LEADS = {TRY_AGAIN: os.EX_TEMPFAIL, UNCERTAIN: os.EX_SOFTWARE}
"""These two mean these leads and nothing else: who reads 75 may send it again, who reads 70 should look first."""

LOCAL = os.EX_DATAERR
"""What was refused before any host was asked is the message or an address, unless the Failure knows better."""

SETTINGS = (Stage.CONNECT, Stage.STARTTLS, Stage.TLS, Stage.AUTH)
"""Where there is no reply at these, smart_hosts, tls or auth have to be changed: EX_CONFIG."""

ENHANCED = {
    # RFC 3463; 5.1.10 by RFC 7505
    "5.1.1": os.EX_NOUSER,
    "5.1.6": os.EX_NOUSER,
    "5.1.2": os.EX_NOHOST,
    "5.1.10": os.EX_NOHOST,
    "5.7": os.EX_NOPERM,
}
"""What a host's own codes say, whatever it answers with them."""

STAGES = {
    Stage.AUTH: os.EX_NOPERM,
    Stage.MAIL: os.EX_DATAERR,
    Stage.TEXT: os.EX_DATAERR,
    Stage.VERDICT: os.EX_DATAERR,
}
"""What a refusal without such codes means there; everywhere else it is EX_UNAVAILABLE."""

NO_USER = (550, 551, 553)
"""What servers without such codes say to a recipient they do not know."""


def status(failure: Failure) -> int:
    """One failure's status; that of several where they agree, else EX_UNAVAILABLE, which sysexits.h has for such."""
    if failure.lead in LEADS:
        return LEADS[failure.lead]
    if failure.status:
        return failure.status
    if failure.reasons:
        found = {status(reason) for reason in failure.reasons if reason.lead == failure.lead}
        return found.pop() if len(found) == 1 else os.EX_UNAVAILABLE
    if failure.stage is None:
        return LOCAL
    if failure.reply is None:
        return os.EX_CONFIG if failure.stage in SETTINGS else os.EX_UNAVAILABLE
    said = str(failure.reply).partition(" ")[2]
    code = re.match(r"(5\.\d{1,3})\.\d{1,3}(?!\S)", said, re.ASCII)
    if code and (code[0] in ENHANCED or code[1] in ENHANCED):
        return ENHANCED.get(code[0]) or ENHANCED[code[1]]
    if failure.stage is Stage.RCPT and not code and failure.reply.code in NO_USER:
        # Callers drop what is for nobody (Bugzilla does); a relay that wants a login must not make them.
        return os.EX_NOPERM if "relay" in said.lower() else os.EX_NOUSER
    return STAGES.get(failure.stage, os.EX_UNAVAILABLE)
