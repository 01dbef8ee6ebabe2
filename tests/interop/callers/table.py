"""The callers, a row for each: how it is run, and what has to come of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from tests.interop.callers import languages, people, recorded, system
from tests.interop.callers.desk import BCC, BODY, BOX, CC, DOMAIN, ME, OPS, TO, Desk, Done
from tests.interop.callers.recorded import CRLF, CRON, LAID_DOWN, LETTER, WITH_BCC, call, mail, shell

COLUMNS = ("arguments", "recipients", "sender", "Bcc", "text", "failure")
EVERYBODY = (TO, CC, BCC)
ALL = " ".join(EVERYBODY)
CUT = "It calls without `-i`: a lone dot ends its message, as in Sendmail (`dot_ends_message = false` mends that)."

Run: TypeAlias = Callable[[Desk], Done]


class Heard(NamedTuple):
    """How a caller shows that its message was refused."""

    how: str  # as the page says it
    status: int | None = None  # its own; None: whatever
    says: bytes = b""  # a pattern, in its output


ONE_LINE = Heard("exit status 1, one line", 1, rb"\Asendmail: not sent, refused: [ -~]+\n\Z")
THROWN = Heard("exception", 9)
NOBODY = Heard("nobody asks")


class Caller(NamedTuple):
    name: str
    package: str  # whose version the page tells; "": its recorded call
    run: Run
    heard: Heard = ONE_LINE
    to: tuple[str, ...] = EVERYBODY
    sender: str = ME
    hidden: str = BCC  # who is in a Bcc field, or among the recipients without a field; "": nobody
    text: str | tuple[str, ...] = BODY  # all of it, or lines of it
    own: str = ""  # columns in which the caller does as it likes
    note: str = ""


CALLERS = [
    # people
    Caller("mutt", "mutt", people.mutt, Heard("message, exit status 1", 1, b"Could not send the message")),
    Caller("neomutt", "neomutt", people.neomutt, Heard("message, exit status 1", 1, b"Could not send the message")),
    Caller(
        "bsd-mailx",
        "bsd-mailx",
        people.bsd_mailx,
        Heard("message, exit status 1", 1, b"sendmail process failed with error code 1"),
    ),
    Caller(
        "s-nail",
        "s-nail",
        people.s_nail,
        Heard("message, exit status 4, dead.letter", 4, b"(?s)dead[.]letter.*message not sent"),
        note="It waits for the outcome only with `set sendwait`.",
    ),
    Caller(
        "GNU mailutils mail",
        "mailutils",
        people.mailutils,
        Heard("message, exit status 1", 1, b"cannot send message: Process exited with a non-zero status"),
    ),
    Caller(
        "alpine",
        "alpine",
        people.alpine,
        Heard("the smart host's reply on the screen", None, b"550 5.1.1 no such user here"),
        text=people.TYPED,
    ),
    Caller(
        "alpine with sendmail-path",
        "alpine",
        people.alpine_by_command,
        Heard("our line on the screen", None, b"sendmail: not sent, refused: "),
        sender=BOX,
        text=people.TYPED,
    ),
    Caller("aerc", "", call(f"{ALL}", message=CRLF), sender=BOX, text=people.UP_TO_THE_DOT, own="text", note=CUT),
    Caller(
        "nmh, sendmail/pipe",
        "nmh",
        people.nmh,
        Heard("message", None, b"exited 1\n"),
        to=(TO, CC),
        sender=BOX,
        hidden="",
        note="It has no `-f`: sent as `from`. A Bcc field it makes a message of its own.",
    ),
    Caller(
        "nmh, sendmail/smtp",
        "nmh",
        people.nmh_by_smtp,
        Heard("the smart host's reply, exit status 1", 1, b"550 5.1.1"),
        to=(TO, CC),
        hidden="",
    ),
    Caller(
        "git send-email, sendmailCmd",
        "git-email",
        people.git_send_email,
        Heard("our line, exit status", None, b"sendmail: not sent, refused: "),
        text=("+hello\n+.\n+..dots\n+From here\n+Grüße, 日本\n+~x\n+ \n",),
    ),
    Caller(
        "git send-email, smtpServer",
        "git-email",
        people.git_by_path,
        Heard("our line, exit status", None, b"sendmail: not sent, refused: "),
        text=("+hello\n+.\n+..dots\n+From here\n+Grüße, 日本\n+~x\n+ \n",),
    ),
    Caller(
        "Emacs message.el",
        "emacs-nox",
        people.emacs,
        Heard("error", 255, b"failed with exit value 1"),
        note="With `message-interactive` any output is a failure.",
    ),
    Caller(
        "Emacs sendmail.el",
        "emacs-nox",
        people.emacs_sendmail,
        Heard("error", 255, b"failed with exit value 1"),
        note="With `mail-interactive` any output is a failure.",
    ),
    Caller(
        "Emacs, resent",
        "",
        call(f"-oi -f {ME} -oem -odb '{TO}, Bob <{CC}>'", message=f"Resent-To: {TO}, Bob <{CC}>\n{LETTER}"),
        to=(TO, CC),
        hidden="",
    ),
    # languages
    Caller(
        "PHP mail()",
        "php8.2-cli",
        languages.php,
        Heard("`false`, our line in the log", 9, b"sendmail: not sent, refused: "),
        text=BODY + "\n",
    ),
    Caller(
        "PHP mail(), mixed_lf_and_crlf",
        "php8.2-cli",
        languages.php_with_lf,
        Heard("`false`, our line in the log", 9, b"sendmail: not sent, refused: "),
        text=BODY + "\n",
    ),
    Caller("PHPMailer isSendmail()", "libphp-phpmailer", languages.phpmailer, THROWN),
    Caller("PHPMailer isMail(), WordPress", "libphp-phpmailer", languages.wordpress, THROWN, text=BODY + "\n"),
    Caller(
        "Symfony Mailer",
        "php-symfony-mailer",
        languages.symfony,
        Heard("exception with the smart host's reply", 9, b"550 5.1.1 no such user here"),
        text=BODY + "\n",
    ),
    Caller(
        "Symfony Mailer with -t -i",
        "php-symfony-mailer",
        languages.symfony_by_command_line,
        Heard("exception with our line", 9, b"sendmail: not sent, refused: "),
    ),
    Caller(
        "Symfony Mailer with -t",
        "php-symfony-mailer",
        languages.symfony_without_i,
        Heard("exception with our line", 9, b"sendmail: not sent, refused: "),
        text=BODY.replace("\n.", "\n.."),
        own="text",
        note="Without `-i` it doubles dots, which only Sendmail takes back: give it `-t -i`.",
    ),
    Caller(
        "Laravel",
        "php-symfony-mailer",
        languages.laravel,
        Heard("exception with the smart host's reply", 9, b"550 5.1.1 no such user here"),
        text=BODY + "\n",
        note="Symfony's mailer with Laravel's `-bs -i`.",
    ),
    Caller("Perl Email::Sender", "libemail-sender-perl", languages.email_sender, THROWN),
    Caller("Bugzilla", "", call(f"-i -f {ME} -- {ALL}")),
    Caller("Request Tracker", "", call(f"-oi -t -f first@client.example -f {ME}", message=WITH_BCC)),
    Caller("Request Tracker, bounce", "", call(f"-oi -f '<>' {TO}"), to=(TO,), sender="", hidden=""),
    Caller(
        "Perl MIME::Lite", "libmime-lite-perl", languages.mime_lite, Heard("exception", None, b"error closing|not sent")
    ),
    Caller(
        "Perl Mail::Mailer",
        "libmailtools-perl",
        languages.mail_mailer,
        Heard("close() fails", 9),
        text=people.UP_TO_THE_DOT,
        own="text",
        note=CUT,
    ),
    Caller(
        "Ruby mail, Rails",
        "ruby-mail",
        languages.ruby,
        Heard("nobody asks; our line on stdout", 0, b"sendmail: not sent, refused: "),
        text=BODY.replace("\n", "\r\n"),
        own="failure text",
        note="2.7.1 does not look at the status, and writes the CR of its line ends as text (`=0D`).",
    ),
    Caller(
        "Ruby mail, :exim",
        "ruby-mail",
        languages.ruby_exim,
        Heard("nobody asks; our line on stdout", 0, b"sendmail: not sent, refused: "),
        to=(TO, CC),
        hidden="",
        text=BODY.replace("\n", "\r\n"),
        own="recipients failure text",
        note="It leaves Bcc out of header and recipients, and writes the CR of its line ends as text (`=0D`).",
    ),
    Caller("Nodemailer", "node-nodemailer", languages.nodemailer, Heard("error", 9, b"Sendmail exited with code 1")),
    Caller("Gitea, Forgejo", "", call(f"-f {ME} -i {ALL}")),
    Caller("Gitea without SENDMAIL_CONVERT_CRLF", "", call(f"-f {ME} -i {ALL}", message=CRLF)),
    Caller("Trac", "", call(f"-i -f {ME} {ALL}"), note="Any output is a failure."),
    Caller(
        "Sympa",
        "",
        call(f"-oi -odi -oem -N success,delay,failure -R hdrs -V 1.2@list -f '' -- {ALL}"),
        sender="",
    ),
    # jobs
    Caller(
        "cron",
        "cron",
        system.cron,
        Heard("status in syslog"),
        to=(OPS, CC),
        sender=BOX,
        hidden="",
        text=system.PRINTED,
        own="failure",
        note="A MAILTO with blanks becomes several words, one with commas stays one.",
    ),
    Caller(
        "cronie",
        "",
        call("-FCronDaemon -i -odi -oem -oi -t -f root", message=CRON.format('"(Cron Daemon)" <root>', f"root,{CC}")),
        to=(OPS, CC),
        sender=f"root@{DOMAIN}",
        hidden="",
    ),
    Caller(
        "systemd-cron",
        "",
        call("-i -B 8BITMIME root", message=CRON.format("root (systemd-cron)", "root")),
        to=(OPS,),
        sender=BOX,
        hidden="",
    ),
    Caller(
        "bcron",
        "",
        call("-FCronDaemon -i -odi -oem -t", message=CRON.format("root (Cron Daemon)", "root")),
        to=(OPS,),
        sender=BOX,
        hidden="",
    ),
    Caller(
        "anacron",
        "anacron",
        system.anacron,
        Heard("status in syslog"),
        to=(TO,),
        sender=BOX,
        hidden="",
        text="hello\n",
        own="text failure",
        note=CUT,
    ),
    Caller(
        "at",
        "at",
        system.at,
        NOBODY,
        to=(OPS,),
        sender=BOX,
        hidden="",
        text=system.PRINTED,
        own="failure",
    ),
    # monitors
    Caller(
        "sudo",
        "sudo",
        system.sudo,
        NOBODY,
        to=(TO,),
        sender=BOX,
        hidden="",
        text=("COMMAND=/usr/bin/true",),
        own="failure",
        note="It wipes the environment and takes stdout and stderr away: the log is where a failure shows.",
    ),
    Caller(
        "mdadm --monitor",
        "mdadm",
        system.mdadm,
        Heard("our line, among its output", None, b"sendmail: not sent, refused: "),
        to=(TO,),
        sender=BOX,
        hidden="",
        text=("Faithfully yours, etc.",),
        own="failure",
        note="It has no `-f`: sent as `from`; the status is not asked for.",
    ),
    Caller(
        "smartd",
        "smartmontools",
        system.smartd,
        Heard("our line, exit status 1", 1, b"sendmail: not sent, refused: "),
        to=(TO, CC),
        sender=BOX,
        hidden="",
        note="By way of mail(1).",
    ),
    Caller(
        "logwatch",
        "logwatch",
        system.logwatch,
        Heard("our line, among its output", None, b"sendmail: not sent, refused: "),
        to=(TO, CC),
        sender=BOX,
        hidden="",
        text=("192.0.2.4: 1 Time",),
        own="failure",
        note="A To field for each recipient; without `-i`; the status is not asked for.",
    ),
    Caller(
        "logcheck, mime-construct",
        "mime-construct",
        system.mime_construct,
        Heard("exit status", None, b"sendmail: "),
        to=(TO, CC),
        sender=BOX,
        hidden="",
    ),
    Caller(
        "rkhunter",
        "",
        shell(f'( echo "Subject: rkhunter"; echo "To: {TO} {CC}"; echo; cat ) | "$1" {TO} {CC}'),
        to=(TO, CC),
        sender=BOX,
        hidden="",
        text=people.UP_TO_THE_DOT,
        own="text",
        note=CUT,
    ),
    Caller(
        "fail2ban",
        "",
        shell(
            'printf %b "Subject: [Fail2Ban] sshd: banned 192.0.2.4\nDate: `LC_ALL=C date -u +"%a, %d %h %Y %T +0000"`\n'
            f'From: Fail2Ban <fail2ban>\nTo: {TO}\\n\\nHi,\\n\n..dots\\n" | "$1" -f "fail2ban" "{TO},{CC}"'
        ),
        to=(TO, CC),
        sender=f"fail2ban@{DOMAIN}",
        hidden="",
        text=("Hi,", "..dots"),
    ),
    Caller(
        "ZFS zed",
        "",
        shell(f'(echo "Subject: scrub"; echo; cat) | eval "$1" {TO}'),
        to=(TO,),
        sender=BOX,
        hidden="",
        text=people.UP_TO_THE_DOT,
        own="text",
        note=CUT,
    ),
    Caller(
        "apcupsd, Nagios, Icinga",
        "",
        mail("-s", "UPS", TO),
        Heard("message, exit status 1", 1, b"sendmail: not sent, refused: "),
        to=(TO,),
        sender=BOX,
        hidden="",
        note="By way of mail(1).",
    ),
    Caller(
        "apticron",
        "",
        mail("-a", "MIME-Version: 1.0", "-a", "X-Apticron: 1", "-r", ME, "-s", "2 updates", TO),
        Heard("message, exit status 1", 1, b"sendmail: not sent, refused: "),
        to=(TO,),
        hidden="",
        note="By way of mail(1).",
    ),
    # package tools
    Caller(
        "unattended-upgrades",
        "unattended-upgrades",
        system.unattended_upgrades,
        Heard("exit status 1, our line", 1, b"sendmail: not sent, refused: "),
        to=(TO,),
        sender=BOX,
        hidden="",
    ),
    Caller(
        "unattended-upgrades with mail(1)",
        "unattended-upgrades",
        system.unattended_upgrades_by_mailx,
        Heard("exit status 1, our line", 1, b"sendmail: not sent, refused: "),
        to=(TO,),
        hidden="",
    ),
    Caller(
        "apt-listchanges",
        "apt-listchanges",
        system.apt_listchanges,
        Heard("warning, our line", None, b"(?s)sendmail: not sent, refused: .*Failed to send mail|Failed to send mail"),
        to=(TO,),
        sender=BOX,
        hidden="",
    ),
    Caller(
        "reportbug",
        "reportbug",
        system.reportbug,
        Heard("our line; it keeps the report", None, b"sendmail: not sent, refused: "),
        to=(TO, CC),
        hidden="",
    ),
    Caller(
        "devscripts bts, mass-bug",
        "",
        call("-t", message=WITH_BCC),
        sender=BOX,
        text=people.UP_TO_THE_DOT,
        own="text",
        note=CUT,
    ),
    Caller(
        "rss2email",
        "rss2email",
        system.rss2email,
        Heard("error, our line", None, b"sendmail: not sent, refused: "),
        to=(TO,),
        hidden="",
        text=("hello there",),
        note="Without `-i`.",
    ),
    # filters
    Caller(
        "procmail, forwarding",
        "procmail",
        system.procmail,
        Heard("our line; its next recipe", 0, b"sendmail: not sent, refused: "),
        to=(TO, CC),
        sender=BOX,
        hidden="",
        text=system.LETTER_TEXT + "\n",
    ),
    Caller(
        "procmail, a pipe to $SENDMAIL",
        "procmail",
        system.procmail_by_pipe,
        Heard("our line; its next recipe", 0, b"sendmail: not sent, refused: "),
        to=(TO, CC),
        sender=BOX,
        hidden="",
        text=system.LETTER_TEXT + "\n",
        note="With a leading `From ` line, which is dropped.",
    ),
    Caller("formail -r", "procmail", system.formail, to=(TO,), sender=BOX, hidden="", text=""),
    Caller(
        "vacation",
        "vacation",
        system.vacation,
        Heard("our line", None, b"sendmail: not sent, refused: "),
        to=("sender@x.example",),
        sender=f"root@{DOMAIN}",
        hidden="",
        text="I am away.\n",
    ),
    Caller(
        "Dovecot, sieve redirect",
        "dovecot-sieve",
        system.sieve_redirect,
        Heard("in its log", None, b"Sendmail program returned error|failed to redirect"),
        to=(CC,),
        sender=BOX,
        hidden="",
        text=system.LETTER_TEXT,
        note="The sender and the From of a foreign message may not pass here (`allowed_from`): sent as `from`.",
    ),
    Caller(
        "Dovecot, sieve vacation",
        "dovecot-sieve",
        system.sieve_vacation,
        Heard("in its log", None, b"Sendmail program returned error|failed to send vacation response"),
        to=(TO,),
        sender="",
        hidden="",
        text=("I am away.",),
    ),
    # UUCP
    Caller(
        "rmail of Sendmail",
        "",
        call(
            f"-G -oee -odi -oi -f{ME} -pUUCP:box {TO} '<{CC}>'",
            message=f"From {ME} Sat Nov 21 10:00:00 2020 remote from box\n{LAID_DOWN}{LETTER}",
        ),
        to=(TO, CC),
        hidden="",
    ),
    Caller(
        "uux, calling us rmail",
        "",
        call(f"{TO} {CC}", name="rmail", message=f"From {ME} Sat Nov 21 10:00:00 2020 remote from box\n{LETTER}"),
        to=(TO, CC),
        sender=BOX,
        hidden="",
    ),
    Caller("uux, calling us rsmtp", "", call("", name="rsmtp", message=recorded.BATCH)),
]
