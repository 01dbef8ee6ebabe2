"""Libraries that web sites and scripts send with: the smallest program that does, and ends with 9 where it failed."""

from __future__ import annotations

from tests.interop.callers.desk import BCC, CC, ME, SUBJECT, TO, Desk, Done

# --- PHP

MAIL = """
$sent = mail($argv[1], $argv[2], stream_get_contents(STDIN), $argv[3], "-f$argv[4]");
exit($sent ? 0 : 9);
"""


def php(desk: Desk, *settings: str) -> Done:
    options = [word for setting in (f"sendmail_path={desk.sendmail} -t -i", *settings) for word in ("-d", setting)]
    header = f"From: {ME}\r\nCc: {CC}\r\nBcc: {BCC}\r\nContent-Type: text/plain; charset=utf-8"
    return desk.run("php", "-n", *options, "-r", MAIL, "--", TO, SUBJECT, header, ME)


def php_with_lf(desk: Desk) -> Done:
    return php(desk, "mail.mixed_lf_and_crlf=On")


PHPMAILER = """
require 'libphp-phpmailer/autoload.php';
$mail = new PHPMailer\\PHPMailer\\PHPMailer(true);
$mail->{$argv[1]}();
$mail->CharSet = 'utf-8';
$mail->Sendmail = $argv[2];
$mail->setFrom($argv[3]);
$mail->addAddress($argv[4]);
$mail->addCC($argv[5]);
$mail->addBCC($argv[6]);
$mail->Subject = $argv[7];
$mail->Body = stream_get_contents(STDIN);
try { $mail->send(); } catch (Exception $error) { fwrite(STDERR, $error->getMessage()); exit(9); }
"""


def phpmailer(desk: Desk, way: str = "isSendmail") -> Done:
    return desk.run(
        "php", "-d", f"sendmail_path={desk.sendmail} -t -i", "-r", PHPMAILER, "--",
        way, str(desk.sendmail), ME, TO, CC, BCC, SUBJECT,
    )  # fmt: skip


def wordpress(desk: Desk) -> Done:
    """What wp_mail() does: PHPMailer set to mail()."""
    return phpmailer(desk, "isMail")


SYMFONY = """
require 'Symfony/Component/Mailer/autoload.php';
use Symfony\\Component\\Mailer\\Transport\\SendmailTransport;
use Symfony\\Component\\Mailer\\Mailer;
use Symfony\\Component\\Mime\\Email;
$email = (new Email())->from($argv[2])->to($argv[3])->cc($argv[4])->bcc($argv[5])->subject($argv[6])
    ->text(stream_get_contents(STDIN));
try { (new Mailer(new SendmailTransport($argv[1])))->send($email); }
catch (Exception $error) { fwrite(STDERR, $error->getMessage()); exit(9); }
"""


def symfony(desk: Desk, options: str = "-bs") -> Done:
    return desk.run("php", "-r", SYMFONY, "--", f"{desk.sendmail} {options}", ME, TO, CC, BCC, SUBJECT)


def symfony_by_command_line(desk: Desk) -> Done:
    return symfony(desk, "-t -i")


def symfony_without_i(desk: Desk) -> Done:
    return symfony(desk, "-t")


def laravel(desk: Desk) -> Done:
    """Symfony's mailer, with what Laravel sets."""
    return symfony(desk, "-bs -i")


# --- Perl

EMAIL_SENDER = """
use Email::Sender::Simple qw(sendmail); use Email::Sender::Transport::Sendmail; use Email::Simple;
my ($path, $from, $to, $cc, $bcc, $subject) = @ARGV; local $/;
my $email = Email::Simple->create(header => [From => $from, To => $to, Cc => $cc, Subject => $subject,
    'Content-Type' => 'text/plain; charset=utf-8', 'Content-Transfer-Encoding' => '8bit'], body => <STDIN>);
my $transport = Email::Sender::Transport::Sendmail->new({ sendmail => $path });
eval { sendmail($email, { from => $from, to => [$to, $cc, $bcc], transport => $transport }); 1 } and exit;
print STDERR $@;
exit 9;
"""

MIME_LITE = """
use MIME::Lite;
my ($path, $from, $to, $cc, $bcc, $subject) = @ARGV; local $/;
MIME::Lite->send('sendmail', Sendmail => $path);
my $mail = MIME::Lite->new(From => $from, To => $to, Cc => $cc, Bcc => $bcc, Subject => $subject,
    Type => 'text/plain; charset=utf-8', Encoding => '8bit', Data => scalar <STDIN>);
$mail->send or exit 9;
"""

MAIL_MAILER = """
use Mail::Mailer;
my ($path, $from, $to, $cc, $bcc, $subject) = @ARGV; local $/;
my $mailer = Mail::Mailer->new('sendmail', '-f', $from);
$mailer->open({ From => $from, To => $to, Cc => $cc, Bcc => $bcc, Subject => $subject,
    'Content-Type' => 'text/plain; charset=utf-8', 'Content-Transfer-Encoding' => '8bit' });
print $mailer <STDIN>;
$mailer->close or exit 9;
"""

ENCODED = "=?utf-8?q?Gr=C3=BC=C3=9Fe?= vom Schreibtisch"


def perl(desk: Desk, script: str) -> Done:
    words = (str(desk.sendmail), ME, TO, CC, BCC, ENCODED)
    return desk.run("perl", "-e", script, "--", *words, env={"PERL_MAILERS": f"sendmail:{desk.sendmail}"})


def email_sender(desk: Desk) -> Done:
    return perl(desk, EMAIL_SENDER)


def mime_lite(desk: Desk) -> Done:
    return perl(desk, MIME_LITE)


def mail_mailer(desk: Desk) -> Done:
    return perl(desk, MAIL_MAILER)


# --- Ruby

RUBY = """
require 'mail'
way, path, from, to, cc, bcc, subject = ARGV
mail = Mail.new(charset: 'UTF-8', from: from, to: to, cc: cc, bcc: bcc, subject: subject, body: $stdin.read)
mail.delivery_method way.to_sym, location: path
begin mail.deliver! rescue (warn $!; exit 9) end
"""


def ruby(desk: Desk, way: str = "sendmail") -> Done:
    return desk.run("ruby", "-E", "UTF-8", "-e", RUBY, "--", way, str(desk.sendmail), ME, TO, CC, BCC, SUBJECT)


def ruby_exim(desk: Desk) -> Done:
    return ruby(desk, "exim")


# --- Node

NODEMAILER = """
const [path, from, to, cc, bcc, subject] = process.argv.slice(1);
const transport = require('/usr/share/nodejs/nodemailer').createTransport({ sendmail: true, path });
const text = require('fs').readFileSync(0, 'utf-8');
transport.sendMail({ from, to, cc, bcc, subject, text }, (error) => {
    if (error) { console.error(error.message); process.exit(9); }
});
"""


def nodemailer(desk: Desk) -> Done:
    return desk.run("node", "-e", NODEMAILER, "--", str(desk.sendmail), ME, TO, CC, BCC, SUBJECT)
