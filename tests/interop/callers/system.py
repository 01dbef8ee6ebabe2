"""What a system sends by itself: jobs, monitors, filters, package tools."""

from __future__ import annotations

import os

from tests.interop.callers.desk import BODY, CC, ME, OPS, PATH, SUBJECT, TO, Desk, Done

# --- jobs

PRINTED = "hello\n.\n..dots\nlast\n"
CRON = {"PATH": PATH, "LANG": "C.UTF-8"}
RUN_TMP = 'mount -t tmpfs tmpfs /run; exec "$@"'


def job(desk: Desk, printed: str = PRINTED) -> str:
    """A command that prints something."""
    return f"cat {desk.file('printed', printed)}"


def cron(desk: Desk, printed: str = PRINTED) -> Done:
    """A job at start, and a MAILTO with two addresses in one word."""
    crontab = desk.file("crontab", f"MAILTO=root,{CC}\n@reboot root {job(desk, printed)}\n", 0o600)
    empty = desk.folder("empty")
    run = ["sh", "-c", RUN_TMP, "sh", "cron", "-f"]  # not where the machine's own cron has its lock
    over = {crontab: "/etc/crontab", empty: "/etc/cron.d", desk.folder("tabs"): "/var/spool/cron/crontabs"}
    return desk.run_until_called(*run, over=over, env=CRON)


def anacron(desk: Desk) -> Done:
    tab = desk.file("anacrontab", f"SHELL=/bin/sh\nPATH={PATH}\nMAILTO={TO}\n1 0 job {job(desk)}\n")
    return desk.run("anacron", "-d", "-f", "-s", "-n", "-t", tab, "-S", desk.folder("spool"), placed=True, stdin="")


def at(desk: Desk) -> Done:
    over = {}
    for name in "atjobs", "atspool":
        folder = desk.folder(name)
        (folder / ".SEQ").touch(0o600)
        over[folder] = f"/var/spool/cron/{name}"
    spools = "cd /var/spool/cron; chown -R daemon:daemon atjobs atspool"
    script = f"set -e; {spools}; echo '{job(desk)}' | at -m now; exec atd -s -l 1000"
    return desk.run("sh", "-c", script, placed=True, over=over, stdin="", env={"LOGNAME": "root"})


# --- monitors


def mdadm(desk: Desk) -> Done:
    config = desk.file("mdadm.conf", f"MAILADDR {TO}\nMAILFROM {ME}\n")
    return desk.run(
        "mdadm", "--monitor", "--config", str(config), "--test", "--oneshot", "/dev/md0", placed=True, stdin=""
    )  # fmt: skip


def logwatch(desk: Desk) -> Done:
    logs = desk.folder("logs")
    desk.file("logs/auth.log", "Nov 21 10:00:00 box sshd[1]: Accepted password for al from 192.0.2.4 port 22 ssh2\n")
    return desk.run(
        "logwatch", "--output", "mail", "--mailto", f"{TO} {CC}", "--service", "sshd", "--range", "all",
        "--logdir", logs, placed=True, stdin="",
    )  # fmt: skip


def smartd(desk: Desk) -> Done:
    """What it starts when a disk fails: a script that gives the text to mail(1)."""
    text = desk.file("text", BODY)
    mailrc = desk.file("mailrc", f"set sendmail={desk.sendmail}\n")
    return desk.run(
        "/etc/smartmontools/run.d/10mail", text, "-s", SUBJECT, TO, CC, env={"MAILRC": str(mailrc)}, placed=True
    )  # fmt: skip


def sudo(desk: Desk) -> Done:
    """Somebody tries what he may not."""
    settings = (
        f'Defaults mail_no_perms, mailto="{TO}", mailfrom="{ME}", mailsub="{SUBJECT}"\nroot ALL=(ALL) /bin/false\n'
    )
    sudoers = desk.file("sudoers", settings, 0o440)
    return desk.run("sudo", "-n", "true", placed=True, over={sudoers: "/etc/sudoers"}, stdin="")


# --- filters

LETTER_TEXT = "hello\n.\n..dots\n"
LETTER = f"From sender@x.example Sat Nov 21 10:00:00 2020\nFrom: {ME}\nTo: {OPS}\nSubject: Hello\n\n{LETTER_TEXT}"


def procmail(desk: Desk, recipe: str = f"! {TO} {CC}") -> Done:
    desk.file(
        ".procmailrc", f"SENDMAIL={desk.sendmail}\nMAILDIR={desk.home}\nDEFAULT=/dev/null\n\n:0\n{recipe}\n", 0o600
    )
    return desk.run("procmail", "-f", ME, desk.home / ".procmailrc", stdin=LETTER)


def procmail_by_pipe(desk: Desk) -> Done:
    return procmail(desk, f"| $SENDMAIL -oi {TO} {CC}")


def formail(desk: Desk) -> Done:
    """An answer made from a message's header."""
    script = f"formail -rt -A 'X-Loop: {OPS}' | {desk.sendmail} -oi -t"
    letter = LETTER.replace(f"From: {ME}", f"From: {TO}")
    return desk.run("sh", "-c", script, stdin=letter)


def vacation(desk: Desk) -> Done:
    away = desk.file("away", "Subject: away\n\nI am away.\n")
    return desk.run("vacation", "-j", "-m", away, "-f", desk.home / "away.db", "root", stdin=LETTER, placed=True)


DOVECOT = """\
protocols =
mail_location = mbox:{home}/mail
base_dir = {home}
state_dir = {home}
sendmail_path = {sendmail}
hostname = box.client.example
postmaster_address = {postmaster}
log_path = /dev/stderr
protocol lda {{
  mail_plugins = sieve
}}
plugin {{
  sieve = file:{home}/script.sieve
}}
"""


def dovecot(desk: Desk, action: str) -> Done:
    desk.file("script.sieve", f'require ["envelope", "vacation", "copy"];\n{action}\n')
    desk.folder("mail")
    config = desk.file("dovecot.conf", DOVECOT.format(home=desk.home, sendmail=desk.sendmail, postmaster=OPS))
    letter = LETTER.partition("\n")[2].replace(f"From: {ME}", f"From: {TO}")
    somebody = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]  # root would have to look himself up
    if os.geteuid() != 0:
        somebody = []
    lda = ["/usr/lib/dovecot/dovecot-lda", "-c", str(config), "-f", TO, "-a", OPS]
    return desk.run(*somebody, *lda, stdin=letter, env={"USER": "somebody"})


def sieve_redirect(desk: Desk) -> Done:
    return dovecot(desk, f'redirect "{CC}";')


def sieve_vacation(desk: Desk) -> Done:
    return dovecot(desk, f'vacation :addresses "{OPS}" "I am away.";')


def mime_construct(desk: Desk) -> Done:
    """As logcheck does."""
    report = desk.file("report", BODY)
    header = ["--to", TO, "--cc", CC, "--subject", "Hello", "--header", f"From: {ME}"]
    kind = ["--type", "text/plain; charset=utf-8"]
    return desk.run("mime-construct", *header, *kind, "--file", report, placed=True, stdin="")


# --- package tools, called in the function that sends

UNATTENDED = """
import importlib.machinery, sys
tool = importlib.machinery.SourceFileLoader("tool", "/usr/bin/unattended-upgrade").load_module()
sys.exit(getattr(tool, sys.argv[1])(*sys.argv[2:5], sys.stdin.read()))
"""


def unattended_upgrades(desk: Desk, way: str = "sendmail") -> Done:
    mailrc = desk.file("mailrc", f"set sendmail={desk.sendmail}\n")
    return desk.run(
        "/usr/bin/python3", "-W", "ignore", "-B", "-c", UNATTENDED, f"_send_mail_using_{way}", ME, TO, SUBJECT,
        placed=True, env={"MAILRC": str(mailrc)},
    )  # fmt: skip


def unattended_upgrades_by_mailx(desk: Desk) -> Done:
    return unattended_upgrades(desk, "mailx")


LISTCHANGES = """
import sys, types
sys.path.insert(0, "/usr/share/apt-listchanges")
import apt_listchanges
config = types.SimpleNamespace(email_address=sys.argv[1], email_format="text")
apt_listchanges.mail_changes(config, sys.stdin.read(), sys.argv[2])
"""


def apt_listchanges(desk: Desk) -> Done:
    return desk.run("/usr/bin/python3", "-B", "-c", LISTCHANGES, TO, SUBJECT, placed=True)


REPORTBUG = """
import sys
from reportbug import submit, ui
submit.ui = ui.text_ui
mta, sender, to, cc, subject = sys.argv[1:]
header = [("Subject", subject)]
submit.send_report(sys.stdin.read(), [], None, sender, to, cc, None, header, charset="utf-8", mta=mta, smtphost="")
"""


def reportbug(desk: Desk) -> Done:
    return desk.run("/usr/bin/python3", "-W", "ignore", "-B", "-c", REPORTBUG, desk.sendmail, ME, TO, CC, SUBJECT)


FEED = """\
<?xml version="1.0"?><rss version="2.0"><channel><title>News</title><link>http://x.example/</link><description/>
<item><title>Hello</title><link>http://x.example/1</link><guid>1</guid><description>hello there</description></item>
</channel></rss>
"""


def rss2email(desk: Desk) -> Done:
    feed = desk.file("feed.xml", FEED)
    config = desk.file(
        "r2e.cfg",
        f"[DEFAULT]\nfrom = {ME}\nto = {TO}\nemail-protocol = sendmail\nsendmail = {desk.sendmail}\nverbose = error\n"
        f"force-from = True\nuse-publisher-email = False\n\n[feed.news]\nurl = {feed}\n",
    )
    return desk.run("r2e", "-c", config, "-d", str(desk.home / "r2e.json"), "run", stdin="")
