"""`muawrap demo`: a real message through bin/sendmail to a smart host that lives for this moment."""

from __future__ import annotations

import os
import pwd
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import click

import muawrap

MESSAGE = (
    b"To: postmaster\nSubject: The backup is done\n\nAll 42 files are safe.\n.\nThis line stands below a lone dot.\n"
)
REFUSED = "unknown@demo.example"
CONFIGURATION = """\
smart_hosts = ["smtp://127.0.0.1:{port}"]
from = "laptop@demo.example"
qualify_domain = "demo.example"
hostname = "laptop.demo.example"
log = "{folder}/log"

[redirect]
aliases = ["{folder}/aliases"]
forward = "{folder}/{{user}}.forward"
"""


@click.command()
def command() -> None:
    """Send a real message to a smart host that lives for this moment, and show all of it."""
    raise SystemExit(run())


def run() -> int:
    """Show one success and one failure; 0 where both went as they should."""
    try:
        from aiosmtpd.controller import Controller
    except ImportError:
        click.echo("the demo needs aiosmtpd as its smart host: pip install 'muawrap[demo]'", err=True)
        return 1
    program = sendmail_program()
    host = _SmartHost()
    controller = Controller(host, hostname="127.0.0.1", port=_free_port(), server_hostname="smarthost.demo.example")
    controller.factory = host.session  # type: ignore[method-assign]
    controller.start()
    try:
        with tempfile.TemporaryDirectory(prefix="muawrap-demo-") as folder:
            return _show(program, Path(folder), controller.port, host)
    finally:
        controller.stop()


def sendmail_program() -> Path:
    """bin/sendmail of the checkout this package stands in, else the one installed beside it."""
    checkout = Path(muawrap.__file__).resolve().parents[2] / "bin" / "sendmail"
    return checkout if checkout.exists() else Path(sysconfig.get_path("scripts")) / "sendmail"


def _show(program: Path, folder: Path, port: int, host: _SmartHost) -> int:
    configuration = folder / "muawrap.toml"
    _write(configuration, CONFIGURATION.format(port=port, folder=folder))
    login = _login()
    aliases = f"postmaster: ops{', ' + login if login else ''}\nops: alice@demo.example\n"
    _write(folder / "aliases", aliases)
    click.secho(f"A throw-away configuration, {configuration}:", bold=True)
    _indented(configuration.read_text())
    click.secho("Its alias file:", bold=True)
    _indented(aliases)
    if login:
        _write(folder / f"{login}.forward", "bob@demo.example\n")
        click.secho(f"And {login}'s .forward:", bold=True)
        _indented("bob@demo.example\n")

    good = _send(program, configuration, "postmaster", host)
    arrived = host.messages == [
        ("laptop@demo.example", ["alice@demo.example"] + (["bob@demo.example"] if login else []))
    ]
    click.secho("What arrived, as the smart host would pass it on:", bold=True)
    _indented(host.text)
    click.secho("The same once more, for a recipient the smart host refuses:", bold=True)
    bad = _send(program, configuration, REFUSED, host)
    click.secho("The log has a line for each:", bold=True)
    _indented((folder / "log").read_text())
    as_promised = arrived and good == (0, b"") and bad[0] == 1 and bad[1].count(b"\n") == 1
    click.secho(
        "All as promised." if as_promised else "This is NOT as it should be.", fg="green" if as_promised else "red"
    )
    return 0 if as_promised else 1


def _send(program: Path, configuration: Path, recipient: str, host: _SmartHost) -> tuple[int, bytes]:
    host.dialogue.clear()
    words = [str(program), "-C", str(configuration), "-i", recipient]
    click.secho(f"$ printf {MESSAGE.decode()!r} | {' '.join(words)}", fg="cyan")
    done = subprocess.run(words, input=MESSAGE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    _indented(done.stdout.decode())
    click.secho(f"exit status {done.returncode}, {'not a word' if not done.stdout else 'one line'}", fg="cyan")
    click.echo()
    click.secho("The SMTP dialogue:", bold=True)
    _indented("\n".join(host.dialogue) + "\n")
    return done.returncode, done.stdout


class _SmartHost:
    """aiosmtpd with a memory: it keeps what was said and what arrived, and refuses one recipient."""

    def __init__(self) -> None:
        self.dialogue: list[str] = []
        self.messages: list[tuple[str, list[str]]] = []
        self.text = ""

    def session(self) -> Any:
        """One SMTP session that tells its dialogue."""
        from aiosmtpd.smtp import SMTP

        told = self.dialogue

        class Session(SMTP):
            def data_received(self, data: bytes) -> None:
                told.extend("C: " + line for line in data.decode("utf-8", "replace").removesuffix("\r\n").split("\r\n"))
                super().data_received(data)

            async def push(self, status: Any) -> None:
                text = status.decode() if isinstance(status, bytes) else str(status)
                told.extend("S: " + line for line in text.split("\r\n") if line)
                await super().push(status)

        return Session(self, hostname="smarthost.demo.example", ident="demo smart host")

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        """One recipient is unknown here."""
        if address == REFUSED:
            return "550 5.1.1 No such user here"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Recipient fine"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """Keep the message."""
        self.messages.append((envelope.mail_from, list(envelope.rcpt_tos)))
        self.text = envelope.content.decode("utf-8", "replace").replace("\r\n", "\n")
        return "250 2.0.0 Message accepted"


def _login() -> str:
    """The calling user's name, "" where the passwd file does not know it."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return ""


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _indented(text: str) -> None:
    for line in text.splitlines():
        click.echo(f"    {line}")
    click.echo()
