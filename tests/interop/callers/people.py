"""Mail programs that people write with."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from tests.interop.callers.desk import BCC, BODY, CC, DOMAIN, ME, SUBJECT, TO, Desk, Done
from tests.support.need import missing

UP_TO_THE_DOT = "hello\n"
TYPED = "hello\n.\n..dots\nFrom here\n"


def mutt(desk: Desk, *options: str, settings: str = "", program: str = "mutt") -> Done:
    muttrc = desk.file(
        "muttrc",
        f'set sendmail="{desk.sendmail} -oem -oi"\n'
        f'set from="{ME}"\nset use_from\nset use_envelope_from\nset hostname="{DOMAIN}"\nset copy=no\n{settings}',
    )
    return desk.run(program, "-n", "-F", muttrc, *options, "-s", SUBJECT, "-c", CC, "-b", BCC, "--", TO)


def neomutt(desk: Desk) -> Done:
    return mutt(desk, program="neomutt")


def bsd_mailx(desk: Desk) -> Done:
    mailrc = desk.file("mailrc", f"set sendmail={desk.sendmail}\n")
    return desk.run("bsd-mailx", "-r", ME, "-s", SUBJECT, "-c", CC, "-b", BCC, TO, env={"MAILRC": str(mailrc)})


def s_nail(desk: Desk) -> Done:
    settings = {
        "v15-compat": "yes",
        "mta": str(desk.sendmail),
        "sendwait": "",  # else it is gone before it could hear of a failure
        "DEAD": str(desk.home / "dead.letter"),
    }
    sets = [word for name, value in settings.items() for word in ("-S", f"{name}={value}")]
    return desk.run("s-nail", "-:/", *sets, "-r", ME, "-s", SUBJECT, "-c", CC, "-b", BCC, TO)


def mailutils(desk: Desk) -> Done:
    settings = f"set sendmail=sendmail:{desk.sendmail}"
    return desk.run(
        "mail.mailutils", "-n", "-E", settings, "-r", ME, "-s", SUBJECT,
        "-a", f"Cc: {CC}", "-a", f"Bcc: {BCC}", "-a", "Content-Type: text/plain; charset=UTF-8",
        "-a", "Content-Transfer-Encoding: 8bit", TO,
    )  # fmt: skip


# --- alpine: a message composed from a URL, and keys typed


def alpine(desk: Desk, setting: str = "") -> Done:
    desk.folder("mail")
    desk.file(
        ".pinerc",
        f'personal-name=Me\nuser-domain={DOMAIN}\ninbox-path=mail/inbox\ndefault-fcc=""\n'
        f"feature-list=quit-without-confirm,send-without-confirm\ncustomized-hdrs=From: Me <{ME}>,Bcc: {BCC}\n"
        f"last-version-used=7.99\n{setting}",
    )
    url = f"mailto:{TO}?cc={CC}&subject=Hello&body={quote(TYPED.rstrip())}"
    return desk.run_on_a_terminal(
        "alpine", "-p", desk.home / ".pinerc", "-P", "/dev/null", "-url", url,
        keys=[(b"Send", b"\x18")], last=rb"ALL of output" if setting else rb"not sent[.][^]]*\]", placed=not setting,
    )  # fmt: skip


def alpine_by_command(desk: Desk) -> Done:
    return alpine(desk, f"sendmail-path={desk.sendmail} -oem -t -oi\n")


# --- git: one commit with all that is hard to carry in a message


def repository(desk: Desk) -> Path:
    """It has one commit."""
    git_core = Path(desk.run("git", "--exec-path").stdout.decode().strip())
    if not (git_core / "git-send-email").exists():
        missing("git send-email")
    folder = desk.folder("repository")
    git(desk, "init", "--quiet")
    (folder / "file").write_text(BODY + "no line end")
    git(desk, "add", "file")
    git(desk, "commit", "--quiet", "-m", f"{SUBJECT}\n\nA text.")
    return folder


def git(desk: Desk, *argv: str, folder: str = "repository") -> Done:
    identity = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_DATE": "1600000000 +0000"}
    for role in ("AUTHOR", "COMMITTER"):
        identity |= {f"GIT_{role}_NAME": "Jürgen", f"GIT_{role}_EMAIL": ME}
    return desk.run("git", *argv, stdin="", env=identity, cwd=desk.folder(folder))


def git_send_email(desk: Desk, setting: str = "--sendmail-cmd") -> Done:
    repository(desk)
    return git(
        desk, "send-email", f"{setting}={desk.sendmail}", "--confirm=never", "--quiet", "--suppress-cc=all",
        f"--envelope-sender={ME}", f"--from={ME}", f"--to={TO}", f"--cc={CC}", f"--bcc={BCC}", "-1",
    )  # fmt: skip


def git_by_path(desk: Desk) -> Done:
    return git_send_email(desk, "--smtp-server")


# --- nmh


def nmh(desk: Desk, mts: str = "sendmail/pipe") -> Done:
    profile = desk.file("mh_profile", "Path: Mail\n")
    desk.folder("Mail")
    draft = desk.file("draft", f"From: {ME}\nTo: {TO}\nCc: {CC}\nSubject: {SUBJECT}\n\n{BODY}")
    return desk.run(
        "/usr/bin/mh/send", "-mts", mts, "-sendmail", str(desk.sendmail), draft, env={"MH": str(profile)}
    )  # fmt: skip


def nmh_by_smtp(desk: Desk) -> Done:
    return nmh(desk, "sendmail/smtp")


# --- Emacs

EMACS = """\
(setq sendmail-program "%s" user-mail-address "%s" user-full-name "Me" mail-host-address "%s"
      send-mail-function 'sendmail-send-it message-send-mail-function 'message-send-mail-with-sendmail
      mail-interactive t message-interactive t mail-specify-envelope-from t mail-envelope-from 'header
      message-default-charset 'utf-8 sendmail-coding-system 'utf-8)
(%s)
(erase-buffer)
(insert "From: %s\nTo: %s\nCc: %s\nBcc: %s\nSubject: %s\n" mail-header-separator "\n")
(insert-file-contents "%s/body")
(%s)
"""


def emacs(desk: Desk, compose: str = "message-mode", send: str = "message-send-mail") -> Done:
    desk.file("body", BODY)
    script = desk.file(
        "send.el",
        EMACS % (desk.sendmail, ME, DOMAIN, compose, ME, TO, CC, BCC, SUBJECT, desk.home, send),
    )
    return desk.run("emacs", "-Q", "--batch", "--load", script)


def emacs_sendmail(desk: Desk) -> Done:
    return emacs(desk, "mail-mode", "mail-send")
