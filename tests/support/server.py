"""A scripted SMTP server on the loopback: well-behaved, except at the stages where a script says otherwise.

    with Server({"RCPT 2": "550 no such user"}) as server:
        ...                                   # let a client talk to 127.0.0.1, server.port
        [session] = server.finished()         # waits until every session has ended
        assert session.commands[-1] == b"QUIT"

A script maps stages to actions. The stages:

    connect     before anything is said              text    after the 354 or BDAT LAST, before the text is read
    handshake   before the TLS handshake             BDAT    the reply to BDAT without LAST
    greeting    the 220                              dot     the verdict, after BDAT LAST too
    AUTH reply  what follows an answer to a challenge
    EHLO HELO STARTTLS AUTH MAIL RCPT DATA RSET NOOP VRFY ETRN ATRN QUIT   the reply to that command

"MAIL 2" is the second MAIL of the session, and so for every stage; "RCPT 499" counts within one transaction,
"RCPT a@b" is that recipient wherever it stands. The narrowest key wins: address, number, stage.

The rule for all stages: an action that sends bytes replaces the well-behaved answer; one that sends none
(Wait) delays it. What the server then believes (recipient accepted, TLS begun, message taken) follows from
the class of what was sent. A str or bytes instead of an action is a Reply. A list of scripts: the n-th
connection takes the n-th, and the last one repeats.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import re
import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from tests.support.scram import Exchange, scram

PATIENCE = 10.0  # seconds; how long a test waits for a session to end before it calls that a failure


# --- what a test reads afterwards ---------------------------------------------------------------------------


@dataclass
class Received:
    """One message as it came in. `recipients` holds those accepted, in order."""

    sender: bytes
    mail_parameters: bytes
    recipients: list[bytes]
    rcpt_parameters: list[bytes]
    dotted: bool = True  # by DATA; False: by BDAT
    data: bytes = b""  # as on the wire, dots still doubled, without the closing ".CRLF"; empty without keep_data
    size: int = 0  # of data
    sha256: str = ""  # of data, hexadecimal
    complete: bool = False  # the end of the message came
    accepted: bool = False  # a 2yz verdict was given

    @property
    def text(self) -> bytes:
        """The message with its dots un-doubled."""
        if not self.dotted:
            return self.data
        return self.data.removeprefix(b".").replace(b"\r\n.", b"\r\n")


@dataclass
class Session:
    """The record of one connection. Wait for `ended` before reading how it ended or what came last."""

    commands: list[bytes] = field(default_factory=list)  # without CRLF; answers to AUTH challenges too
    messages: list[Received] = field(default_factory=list)  # all data seen, complete or not, accepted or not
    tls: bool = False
    tls_version: str | None = None
    client_certificate: bytes | None = None  # DER
    authenticated: str | None = None
    raw: bytearray = field(default_factory=bytearray)  # all bytes received, decrypted
    transcript: list[tuple[str, bytes]] = field(default_factory=list)  # ("C" or "S", bytes) as they came and went
    ended: threading.Event = field(default_factory=threading.Event)
    ending: str = ""  # quit, client closed, client reset, dropped, reset, server closed, tls: REASON

    @property
    def accepted(self) -> list[Received]:
        return [message for message in self.messages if message.accepted]


# --- one connection -----------------------------------------------------------------------------------------


class Over(Exception):
    """The session has ended; the text says how."""


class Channel:
    """One connection's bytes: read by line, by message or by count, and all of them recorded."""

    def __init__(self, sock: socket.socket, session: Session, closing: threading.Event) -> None:
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.session = session
        self.closing = closing
        self.buffer = bytearray()

    def send(self, data: bytes) -> None:
        self.session.transcript.append(("S", data))
        with self._translated():
            self.sock.sendall(data)

    def receive(self, record: bool = True) -> bytes:
        """The next bytes off the wire; never empty, since the end of the stream is `Over`."""
        with self._translated():
            chunk = self.sock.recv(65536)
        if not chunk:
            raise Over("server closed" if self.closing.is_set() else "client closed")
        if record:
            self._record(chunk)
        return chunk

    def read_line(self) -> bytes:
        """A line without its CRLF. A bare LF ends it too, but stays on it, where a test can see it."""
        searched = 0
        while (end := self.buffer.find(b"\n", searched)) < 0:
            searched = len(self.buffer)
            self.buffer += self.receive()
        line = bytes(self.buffer[: end + 1])
        del self.buffer[: end + 1]
        return line.removesuffix(b"\r\n")

    def read_text(self, add: Callable[[bytes], None], record: bool) -> None:
        """Everything up to CRLF.CRLF, and only there, handed to `add` piece by piece."""
        held, skip = b"\r\n", 2  # the text may begin with the lone dot: DATA's own CRLF stands in front of it
        chunk, recorded = bytes(self.buffer), True
        self.buffer.clear()
        while True:
            window = held + chunk
            end = window.find(b"\r\n.\r\n")
            ready = end + 2 if end >= 0 else max(len(window) - 4, 0)  # four bytes may be part of the end
            add(window[min(skip, ready) : ready])
            skip -= min(skip, ready)
            if end >= 0:
                self.buffer += window[end + 5 :]
                if not recorded:
                    self._record(bytes(self.buffer))
                return
            held = window[ready:]
            try:
                chunk, recorded = self.receive(record), record
            except Over:
                add(held[skip:])
                raise

    def read_count(self, count: int, add: Callable[[bytes], None], record: bool) -> None:
        """Exactly `count` bytes, handed to `add` piece by piece."""
        while count:
            if not self.buffer:
                chunk = self.receive(record)
                self.buffer += chunk
                if not record:
                    self._record(chunk[count:])
            piece = bytes(self.buffer[:count])
            del self.buffer[:count]
            count -= len(piece)
            add(piece)

    def wait(self, until: threading.Event | float) -> None:
        """Until the event or the number of seconds, but never beyond the server's close."""
        if isinstance(until, threading.Event):
            while not until.wait(0.05) and not self.closing.is_set():
                pass
        else:
            self.closing.wait(until)
        if self.closing.is_set():
            raise Over("server closed")

    def start_tls(self, context: ssl.SSLContext) -> None:
        self.buffer.clear()  # what came in the clear is not carried over
        with self._translated():
            wrapped = context.wrap_socket(self.sock, server_side=True, do_handshake_on_connect=False)
            self.sock = wrapped
            if self.closing.is_set():
                raise Over("server closed")
            wrapped.do_handshake()
            self.session.client_certificate = wrapped.getpeercert(binary_form=True)
        self.session.tls, self.session.tls_version = True, wrapped.version()

    def drop(self) -> None:
        """Leave with a FIN. Unread bytes would make it a RST, so they are read first."""
        plain = socket.socket.recv  # beneath TLS, if there is any
        with contextlib.suppress(OSError):
            while plain(self.sock, 65536, socket.MSG_DONTWAIT):
                pass
        raise Over("dropped")

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Over("reset")

    def abort(self) -> None:
        """From another thread: wake whoever reads or writes here."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    def _record(self, chunk: bytes) -> None:
        self.session.raw += chunk
        self.session.transcript.append(("C", chunk))

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self.closing.is_set():
                raise Over("server closed") from error
            if isinstance(error, ssl.SSLError):
                raise Over(f"tls: {error.reason or error}") from error
            raise Over("client reset") from error


# --- actions ------------------------------------------------------------------------------------------------


class Action:
    """What the server does at a stage."""

    wire: bytes = b""  # all it will send
    final: bool = False  # nothing follows it

    def perform(self, channel: Channel) -> None:
        raise NotImplementedError


class Raw(Action):
    """Send these bytes."""

    def __init__(self, wire: bytes) -> None:
        self.wire = wire

    def perform(self, channel: Channel) -> None:
        channel.send(self.wire)


class Reply(Raw):
    """Send this reply. The lines of a str get their CRLF; bytes go as they are."""

    def __init__(self, reply: str | bytes) -> None:
        if isinstance(reply, str):
            reply = b"".join(line.encode() + b"\r\n" for line in reply.splitlines())
        super().__init__(reply)


class Drip(Raw):
    """Send these bytes one at a time, `gap` seconds apart."""

    def __init__(self, wire: bytes, gap: float) -> None:
        super().__init__(wire)
        self.gap = gap

    def perform(self, channel: Channel) -> None:
        for index in range(len(self.wire)):
            if index:
                channel.wait(self.gap)
            channel.send(self.wire[index : index + 1])


class Wait(Action):
    """Wait for an event or a number of seconds, then go on."""

    def __init__(self, until: threading.Event | float) -> None:
        self.until = until

    def perform(self, channel: Channel) -> None:
        channel.wait(self.until)


class Hold(Action):
    """Say that the client has come this far, and nothing more to the client."""

    final = True

    def __init__(self, reached: threading.Event) -> None:
        self.reached = reached

    def perform(self, channel: Channel) -> None:
        self.reached.set()
        while True:
            channel.receive()


class Drop(Action):
    """Close the connection: FIN. A client that goes on sending then meets a RST, as with any server."""

    final = True

    def perform(self, channel: Channel) -> None:
        channel.drop()


class Reset(Action):
    """Reset the connection: RST."""

    final = True

    def perform(self, channel: Channel) -> None:
        channel.reset()


class Silence(Action):
    """Never answer again. With `reading=False` nothing more is read either: its sends fill up."""

    final = True

    def __init__(self, reading: bool = True) -> None:
        self.reading = reading

    def perform(self, channel: Channel) -> None:
        while self.reading:
            channel.receive()
        channel.closing.wait()
        raise Over("server closed")


class Then(Action):
    """One action after the other."""

    def __init__(self, *actions: Action | str | bytes) -> None:
        self.actions = [as_action(action) for action in actions]
        self.wire = b"".join(action.wire for action in self.actions)
        self.final = any(action.final for action in self.actions)

    def perform(self, channel: Channel) -> None:
        for action in self.actions:
            action.perform(channel)


def as_action(action: Action | str | bytes) -> Action:
    return action if isinstance(action, Action) else Reply(action)


Script = Mapping[str, Action | str | bytes]

STAGES = {
    *("connect", "handshake", "greeting", "EHLO", "HELO", "STARTTLS", "AUTH", "AUTH reply"),
    *("MAIL", "RCPT", "DATA", "text", "BDAT", "dot", "RSET", "NOOP", "VRFY", "ETRN", "ATRN", "QUIT"),
}


def read_script(script: Script) -> dict[str, Action]:
    """The script with actions only; a key that could never match is an error."""
    actions = {}
    for key, action in script.items():
        stage, _, which = key.rpartition(" ")
        if key not in STAGES and not (stage in STAGES and (which.isdigit() or stage == "RCPT")):
            raise ValueError(f"no such stage: {key!r}")
        if key not in STAGES and stage == "RCPT":
            key = f"RCPT {which.removeprefix('<').removesuffix('>')}"
        actions[key] = as_action(action)
    return actions


def reply_class(wire: bytes) -> int:
    """2, 3, 4 or 5 where every line agrees on it, else 0."""
    digits = {line[:1] if re.match(rb"[2-5][0-9][0-9](?:[ -]|$)", line) else b"0" for line in wire.splitlines()}
    return int(digits.pop()) if len(digits) == 1 else 0


# --- listening ----------------------------------------------------------------------------------------------

L = TypeVar("L", bound="Listener")


class Listener:
    """Accepts on a free loopback port; every connection is a `Session`, served in a thread of its own."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.host = host
        self.family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.closing = threading.Event()
        self.sessions: list[Session] = []
        self._channels: list[Channel] = []
        self._threads: list[threading.Thread] = []
        self._marks: dict[tuple[str, int], threading.Event] = {}
        self._listening = socket.create_server((host, port), family=self.family, backlog=512)
        self.port: int = self._listening.getsockname()[1]

    def serve(self, channel: Channel, number: int) -> None:
        """Lead one session, the `number`-th from 0; returning or raising `Over` ends it."""
        raise NotImplementedError

    def finished(self, timeout: float = PATIENCE) -> list[Session]:
        """The sessions, when all connections made so far have been accepted and have ended."""
        self._catch_up()
        for number, session in enumerate(list(self.sessions)):
            if not session.ended.wait(timeout):
                raise TimeoutError(f"session {number} goes on: {session.transcript[-4:]}")
        return list(self.sessions)

    def close(self) -> None:
        if self.closing.is_set():
            return
        self.closing.set()
        self._catch_up()  # wakes the accepting thread, which then ends
        self._listening.close()
        for channel in self._channels:
            channel.abort()
        for thread in self._threads:
            thread.join(PATIENCE)

    def __enter__(self: L) -> L:
        accepting = threading.Thread(target=self._accept, daemon=True)
        accepting.start()
        self._threads.append(accepting)
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            sock, peer = self._listening.accept()
            mark = self._marks.pop(peer[:2], None)
            if mark is not None:
                sock.close()
                last = self.closing.is_set()  # asked first: who waits for the mark may close us at once
                mark.set()
                if last:
                    return
                continue
            session = Session()
            channel = Channel(sock, session, self.closing)
            thread = threading.Thread(target=self._run, args=(channel, len(self.sessions)), daemon=True)
            self.sessions.append(session)
            self._channels.append(channel)
            self._threads.append(thread)
            thread.start()

    def _run(self, channel: Channel, number: int) -> None:
        channel.session.ending = "dropped"
        try:
            self.serve(channel, number)
        except Over as over:
            channel.session.ending = str(over)
        finally:
            channel.sock.close()
            channel.session.ended.set()

    def _catch_up(self) -> None:
        """Connections are accepted in order: once our own has been, so have all that came before it."""
        with socket.socket(self.family) as sock:
            sock.bind((self.host, 0))
            mark = self._marks[sock.getsockname()[:2]] = threading.Event()
            sock.connect((self.host, self.port))
            if not mark.wait(PATIENCE):
                raise TimeoutError("the accepting thread has died")


@contextlib.contextmanager
def closed_port(host: str = "127.0.0.1") -> Iterator[int]:
    """A port on which nothing listens; it is held, so that nothing else can begin to."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.bind((host, 0))
        yield sock.getsockname()[1]


# --- SMTP ---------------------------------------------------------------------------------------------------


class Server(Listener):
    """An SMTP server that takes every message, but for what its script says."""

    def __init__(
        self,
        script: Script | Sequence[Script] = (),
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        extensions: Sequence[str] = ("PIPELINING", "8BITMIME", "SIZE 10000000"),
        context: ssl.SSLContext | None = None,  # offers STARTTLS
        implicit_tls: bool = False,
        users: Mapping[str, str] | None = None,  # name -> password; offers AUTH
        mechanisms: Sequence[str] = ("PLAIN", "LOGIN"),
        exchanges: Mapping[bytes, Callable[[Mapping[str, str]], Exchange]] | None = None,  # beside EXCHANGES
        keep_data: bool = True,  # False: of a message only its size and SHA-256
        name: str = "server.example",
    ) -> None:
        if implicit_tls and context is None:
            raise ValueError("implicit_tls needs a context")
        scripts = [script] if isinstance(script, Mapping) else list(script)
        self.scripts = [read_script(each) for each in scripts] or [{}]
        super().__init__(host, port)
        self.extensions = list(extensions)
        self.context = context
        self.implicit_tls = implicit_tls
        self.users = users
        self.mechanisms = list(mechanisms)
        self.exchanges = exchanges or {}
        self.keep_data = keep_data
        self.name = name.encode()

    @property
    def messages(self) -> list[Received]:
        return [message for session in self.sessions for message in session.messages]

    @property
    def accepted(self) -> list[Received]:
        return [message for session in self.sessions for message in session.accepted]

    def serve(self, channel: Channel, number: int) -> None:
        script = self.scripts[min(number, len(self.scripts) - 1)]
        Conversation(self, channel, script).lead()


PATH = re.compile(rb'<((?:"(?:\\.|[^"\\])*"|[^<>"])*)>(?: (.*))?')


class Conversation:
    """One session's dialogue: a method for each command, named as the command is."""

    def __init__(self, server: Server, channel: Channel, script: dict[str, Action]) -> None:
        self.server = server
        self.channel = channel
        self.session = channel.session
        self.script = script
        self.count: Counter[str] = Counter()
        self.greeted = False
        self.bdat: Intake | None = None
        self.forget()

    def lead(self) -> None:
        self.answer("connect", b"")
        if self.server.implicit_tls:
            self.shake_hands()
        self.answer("greeting", b"220 %s ESMTP" % self.server.name)
        while True:
            line = self.channel.read_line()
            self.session.commands.append(line)
            verb, _, argument = line.partition(b" ")
            command = getattr(self, "do_" + verb.decode("ascii", "replace").lower(), None)
            if command is None or line.endswith(b"\n"):
                self.say(b"500 5.5.1 unknown command")
            else:
                command(argument)

    # -- speaking

    def say(self, reply: bytes) -> None:
        self.channel.send(reply + b"\r\n")

    def plan(self, stage: str, default: bytes, argument: str = "") -> tuple[int, Action]:
        """What is going to be said at this stage, and its class, 0 if nothing."""
        self.count[stage] += 1
        keys = (f"{stage} {argument}", f"{stage} {self.count[stage]}", stage)
        scripted = next((self.script[key] for key in keys if key in self.script), None)
        action = scripted or Then()
        if not action.wire and not action.final and default:
            action = Then(action, default + b"\r\n")
        return reply_class(action.wire), action

    def answer(self, stage: str, default: bytes, argument: str = "") -> int:
        """Say it; its class."""
        verdict, action = self.plan(stage, default, argument)
        action.perform(self.channel)
        return verdict

    def shake_hands(self) -> None:
        assert self.server.context is not None
        _, action = self.plan("handshake", b"")
        action.perform(self.channel)
        if not action.wire:
            self.channel.start_tls(self.server.context)

    def forget(self) -> None:
        """No transaction."""
        if self.bdat is not None:
            self.bdat.finish()
        self.sender: tuple[bytes, bytes] | None = None
        self.recipients: list[tuple[bytes, bytes]] = []
        self.bdat = None
        self.count["RCPT"] = 0

    # -- the session

    def do_ehlo(self, argument: bytes) -> None:
        lines = [self.server.name, *(extension.encode() for extension in self.server.extensions)]
        if self.server.context is not None and not self.session.tls:
            lines.append(b"STARTTLS")
        if self.server.users is not None:
            lines.append(b"AUTH " + " ".join(self.server.mechanisms).encode())
        reply = b"".join(b"250-%s\r\n" % line for line in lines[:-1]) + b"250 " + lines[-1]
        if self.answer("EHLO", reply) == 2:
            self.greeted = True
            self.forget()

    def do_helo(self, argument: bytes) -> None:
        if self.answer("HELO", b"250 " + self.server.name) == 2:
            self.greeted = True
            self.forget()

    def do_starttls(self, argument: bytes) -> None:
        possible = self.server.context is not None and not self.session.tls
        if self.answer("STARTTLS", b"220 2.0.0 go ahead" if possible else b"503 5.5.1 not now") == 2 and possible:
            self.shake_hands()
            self.greeted = False
            self.forget()

    def do_auth(self, argument: bytes) -> None:
        mechanism, _, initial = argument.partition(b" ")
        if self.server.users is None or mechanism.decode("latin-1").upper() not in self.server.mechanisms:
            self.answer("AUTH", b"504 5.5.4 no such mechanism")
            return
        known = {**EXCHANGES, **self.server.exchanges}
        exchange = known.get(mechanism.upper(), unknown_exchange)(self.server.users)
        challenge = next(exchange)
        stage, given = "AUTH", initial or None
        while True:
            user = None
            reply = b"334 " + base64.b64encode(challenge)
            try:
                if given is not None:
                    answer = b"" if given == b"=" else base64.b64decode(given, validate=True)
                    reply = b"334 " + base64.b64encode(exchange.send(answer))
            except StopIteration as done:
                user = done.value
                words = getattr(user, "words", b"") or b"welcome"
                reply = b"535 5.7.8 wrong" if user is None else b"235 2.7.0 " + words
            except binascii.Error:  # "*", which cancels, too
                self.say(b"501 5.5.2 not base64")
                return
            verdict, action = self.plan(stage, reply)
            if verdict == 2:
                self.session.authenticated = user
            action.perform(self.channel)
            if verdict != 3:
                return
            stage, given = "AUTH reply", self.channel.read_line()
            self.session.commands.append(given)

    def do_rset(self, argument: bytes) -> None:
        self.forget()
        self.answer("RSET", b"250 2.0.0 forgotten")

    def do_noop(self, argument: bytes) -> None:
        self.answer("NOOP", b"250 2.0.0 still here")

    def do_vrfy(self, argument: bytes) -> None:
        self.answer("VRFY", b"252 2.1.5 try it")

    def do_etrn(self, argument: bytes) -> None:
        self.answer("ETRN", b"250 2.0.0 queuing for node %s started" % argument)

    def do_quit(self, argument: bytes) -> None:
        with contextlib.suppress(Over):  # the client need not wait for it
            self.answer("QUIT", b"221 2.0.0 bye")
        raise Over("quit")

    # -- the transaction

    def do_mail(self, argument: bytes) -> None:
        prefix, path = argument[:5], PATH.fullmatch(argument[5:])
        if prefix.upper() != b"FROM:" or path is None:
            self.answer("MAIL", b"501 5.5.4 MAIL FROM:<address>")
        elif not self.greeted or self.sender is not None:
            self.answer("MAIL", b"503 5.5.1 not now")
        elif self.answer("MAIL", b"250 2.1.0 go on") == 2:
            self.sender = path[1], path[2] or b""

    def do_rcpt(self, argument: bytes) -> None:
        prefix, path = argument[:3], PATH.fullmatch(argument[3:])
        address = path[1].decode("utf-8", "replace") if path else ""
        if prefix.upper() != b"TO:" or path is None:
            self.answer("RCPT", b"501 5.5.4 RCPT TO:<address>", address)
        elif self.sender is None:
            self.answer("RCPT", b"503 5.5.1 MAIL first", address)
        elif self.answer("RCPT", b"250 2.1.5 go on", address) == 2:
            self.recipients.append((path[1], path[2] or b""))

    def do_data(self, argument: bytes) -> None:
        if not self.recipients or self.bdat is not None:
            self.answer("DATA", b"503 5.5.1 not now")
        elif self.answer("DATA", b"354 go ahead") == 3:
            intake = self.take_in(dotted=True)
            try:
                self.answer("text", b"")
                self.channel.read_text(intake.add, record=self.server.keep_data)
                intake.message.complete = True
            finally:
                intake.finish()
            self.give_verdict(intake.message)

    def do_bdat(self, argument: bytes) -> None:
        size, last = argument.upper().removesuffix(b" LAST"), argument.upper().endswith(b" LAST")
        if "CHUNKING" not in self.server.extensions or not size.isdigit():
            self.say(b"501 5.5.4 BDAT size")
            return
        intake = self.bdat = self.bdat or self.take_in(dotted=False)
        try:
            if last:
                self.answer("text", b"")
            self.channel.read_count(int(size), intake.add, record=self.server.keep_data)
        except Over:
            intake.finish()
            raise
        if last:
            intake.finish()
            intake.message.complete = True
            self.give_verdict(intake.message)
        elif self.answer("BDAT", b"250 2.0.0 go on" if self.recipients else b"503 5.5.1 no recipient") != 2:
            self.forget()

    def take_in(self, dotted: bool) -> Intake:
        """Open a message; the test can see it from now on."""
        sender, mail_parameters = self.sender or (b"", b"")
        addresses, parameters = [rcpt[0] for rcpt in self.recipients], [rcpt[1] for rcpt in self.recipients]
        message = Received(sender, mail_parameters, addresses, parameters, dotted)
        self.session.messages.append(message)
        return Intake(message, keep=self.server.keep_data)

    def give_verdict(self, message: Received) -> None:
        default = b"250 2.0.0 taken" if message.recipients else b"503 5.5.1 no recipient"
        verdict, action = self.plan("dot", default)
        message.accepted = verdict == 2  # first, since the client may be gone before we are back
        self.forget()
        action.perform(self.channel)


class Intake:
    """A message's text while it comes in."""

    def __init__(self, message: Received, keep: bool) -> None:
        self.message = message
        self.keep = keep
        self.pieces: list[bytes] = []
        self.digest = hashlib.sha256()

    def add(self, piece: bytes) -> None:
        self.message.size += len(piece)
        self.digest.update(piece)
        if self.keep:
            self.pieces.append(piece)

    def finish(self) -> None:
        """No more will come."""
        self.message.data = b"".join(self.pieces)
        self.message.sha256 = self.digest.hexdigest()


# --- SASL, the server's side: yields challenges, is sent answers, returns the user or None ------------------


def checked(users: Mapping[str, str], user: bytes, password: bytes) -> str | None:
    name = user.decode("utf-8", "replace")
    return name if users.get(name) == password.decode("utf-8", "replace") else None


def plain(users: Mapping[str, str]) -> Exchange:
    _, user, password, *_ = [*(yield b"").split(b"\0"), b"", b""]
    return checked(users, user, password)


def login(users: Mapping[str, str]) -> Exchange:
    user = yield b"Username:"
    password = yield b"Password:"
    return checked(users, user, password)


def cram_md5(users: Mapping[str, str]) -> Exchange:
    challenge = b"<1896.697170952@server.example>"
    user, _, digest = (yield challenge).decode("utf-8", "replace").rpartition(" ")
    expected = hmac.new(users.get(user, "").encode(), challenge, "md5").hexdigest()
    return user if user in users and digest == expected else None


def unknown_exchange(users: Mapping[str, str]) -> Exchange:
    """A mechanism that is offered but not known here: the script leads it."""
    yield b""
    return None


def bearer(users: Mapping[str, str]) -> Exchange:
    """XOAUTH2 and OAUTHBEARER (RFC 7628): the token is what stands as the user's password."""
    said = (yield b"").decode()
    header, _, rest = said.partition("\1")
    fields = dict(field.partition("=")[::2] for field in rest.split("\1") if field)
    user = header.removeprefix("user=") if header.startswith("user=") else header.removeprefix("n,a=").removesuffix(",")
    user = user.replace("=2C", ",").replace("=3D", "=")
    if said.endswith("\1\1") and fields.get("auth") == f"Bearer {users.get(user)}":
        return user
    end = yield b'{"status":"invalid_token","scope":"https://mail.example/"}'
    assert end == (b"" if header.startswith("user=") else b"\1"), end
    return None


EXCHANGES: dict[bytes, Callable[[Mapping[str, str]], Exchange]] = {
    b"PLAIN": plain,
    b"LOGIN": login,
    b"CRAM-MD5": cram_md5,
    b"XOAUTH2": bearer,
    b"OAUTHBEARER": bearer,
    **scram(),
}
