"""The targets for what reaching an account adds: SCRAM, certificates, their names, SOCKS5, netrc, OAuth."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import socket
import time
from collections.abc import Iterator

from muawrap.failure import REFUSED, TRY_AGAIN, Failure, Stage
from muawrap.mail import SmartHost, Timeouts, Tls
from muawrap.submission import binding, identity, netrc, oauth, pins, sasl, scram, socks
from muawrap.submission.connection import Connection
from tests.fuzz import checks
from tests.fuzz.wired import AFTER_SEND, Wired, WiredOpening

PASSWORD = "s3cret-password"
_PATIENT = Timeouts(connect=5, greeting=5, command=5, data=5, final=5)


# -- SCRAM ----------------------------------------------------------------------------------------------------------

_MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-1", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS")
_PASSWORDS = (PASSWORD, "s3crét+pässwörd", "s3cret,=pass", "s3cret\udce9(latin)")
_NONCE, _OUR_NONCE, _SIGNATURE = "fyko+d2lbbFgONRv9qkxdawL", b"%N", b"%V"
_SLOW = re.compile(rb"i=[1-9][0-9]{5}(?![0-9])")  # is lawful, and takes up to half a second


def scram_messages(data: bytes) -> None:
    """An octet of switches; the user, each message of a server, the words of its 235: NUL between them.

    In these %N is our nonce, and %V the signature of a server that knows the password.
    """
    how, (user, *messages) = data[0] if data else 0, data[1:].split(b"\0")
    name, password = _MECHANISMS[how & 3], _PASSWORDS[how >> 2 & 3]
    channel = sasl.Channel(binding=b"bound" if name.endswith("-PLUS") else None, unbound=bool(how & 16))
    try:
        mechanism = scram.Scram(name, user.decode("utf-8", "surrogateescape"), password, channel, _NONCE)
    except Failure as failure:  # SASLprep
        checks.tells_nothing([checks.told(failure)], password)
        return
    assert mechanism.initial is not None
    header, _, bare = mechanism.initial.split(b",", 2)
    assert re.fullmatch(rb"p=tls-server-end-point|[ny]", header)
    signature, proofs, heard = b"", 0, []
    *messages, words = messages or [b""]
    try:
        for message in messages:
            if _SLOW.search(message):
                return
            heard.append(message.replace(_OUR_NONCE, _NONCE.encode()).replace(_SIGNATURE, signature))
            answer = mechanism.answer(heard[-1])
            assert answer in (b"", mechanism.initial) or answer.startswith(b"c=")
            if answer.startswith(b"c="):
                proofs += 1
                bound = header + b",," + (b"bound" if header.startswith(b"p=") else b"")
                signature = _signature(name, password, [bare, heard[-1], answer], bound)
        heard += _decoded(words.replace(_SIGNATURE, base64.b64encode(b"v=" + signature)))
        shown = [base64.b64encode(one).decode() for one in heard[len(messages) :]]
        mechanism.accepted(" ".join(shown))
    except Failure as failure:
        assert failure.lead in (TRY_AGAIN, REFUSED)  # noqa: PT017
        checks.tells_nothing([checks.told(failure)], password)
    else:
        assert proofs == 1
        right = b"v=" + signature
        assert any(message == right or message.startswith(right + b",") for message in heard)


def _decoded(words: bytes) -> Iterator[bytes]:
    for word in words.split():
        try:
            yield sasl.decode(word.decode("latin-1"))
        except ValueError:
            continue


def _signature(name: str, password: str, messages: list[bytes], bound: bytes) -> bytes:
    """The server's side of RFC 5802 (3), once more: it takes the proof, and gives its signature in base64."""
    bare, first, final = messages
    what = "sha256" if "256" in name else "sha1"
    nonce, salt, iterations, *_ = (part.partition(b"=")[2] for part in first.split(b","))
    without_proof, _, proof = final.rpartition(b",p=")
    assert nonce.startswith(_NONCE.encode())
    assert len(nonce) > len(_NONCE)
    assert without_proof == b"c=" + base64.b64encode(bound) + b",r=" + nonce
    assert 4096 <= int(iterations) <= 1_000_000
    salted = hashlib.pbkdf2_hmac(what, password.encode(), base64.b64decode(salt), int(iterations))
    message = b",".join((bare, first, without_proof))
    stored = hashlib.new(what, hmac.digest(salted, b"Client Key", what)).digest()
    signed = hmac.digest(stored, message, what)
    key = bytes(one ^ other for one, other in zip(base64.b64decode(proof), signed, strict=True))
    assert hashlib.new(what, key).digest() == stored
    return base64.b64encode(hmac.digest(hmac.digest(salted, b"Server Key", what), message, what))


# -- certificates ---------------------------------------------------------------------------------------------------


def certificate(der: bytes) -> None:
    """What should be a certificate in DER."""
    found = pins.fingerprints(der)
    assert found[0] == hashlib.sha256(der).hexdigest()
    bound = binding.end_point(der)
    known = [hashlib.new(name, der).digest() for name in ("sha224", "sha256", "sha384", "sha512")]
    assert bound is None or bound in known
    try:
        key = pins.public_key(der)
    except ValueError:
        assert len(found) == 1
        assert _public_key(der) is None
        return
    assert found[1:] == (hashlib.sha256(key).hexdigest(),)
    assert key in der
    assert _elements(key) == [key]
    assert _public_key(der) in (key, None)


def _public_key(der: bytes) -> bytes | None:
    """The same by a reader that splits all of it; None where something of it is no DER, or no certificate."""
    try:
        (whole,) = _elements(der)
        to_be_signed, _, _ = _elements(whole, inside=True)
        parts = _elements(to_be_signed, inside=True)
    except ValueError:
        return None
    parts = parts[int(parts[0][0] == 0xA0) :] if parts else []
    kinds = bytes(part[0] for part in parts[:6])
    return parts[5] if whole[0] == to_be_signed[0] == 0x30 and kinds == b"\x02\x30\x30\x30\x30\x30" else None


def _elements(der: bytes, inside: bool = False) -> list[bytes]:
    """The elements one after the other (X.690, 8.1), or those inside the one that it is. Raises ValueError."""
    found = []
    while der:
        if len(der) < 2:
            raise ValueError
        octets, length = 0, der[1]
        if length >= 0x80:
            octets = length & 0x7F
            length = int.from_bytes(der[2 : 2 + octets], "big")
            if not 1 <= octets <= 4 or length < 0x80 or length < 1 << 8 * (octets - 1):
                raise ValueError
        if inside:
            return _elements(der[2 + octets :])
        if len(der) < 2 + octets + length:
            raise ValueError
        found.append(der[: 2 + octets + length])
        der = der[2 + octets + length :]
    return found


def names(data: bytes) -> None:
    """A host name and the names of a certificate, NUL between them."""
    name, *presented = (part.decode("utf-8", "surrogateescape") for part in data.split(b"\0"))
    expected = [_is_for(one, name) for one in presented]
    assert [identity.matches(one, name) for one in presented] == expected
    try:
        identity.check({"subjectAltName": tuple(("DNS", one) for one in presented)}, ("other.example", name))
    except ValueError:
        assert not any(expected)
    else:
        assert any(expected) or "other.example" in map(str.lower, presented)


def _is_for(presented: str, name: str) -> bool:
    """RFC 9525, 6.3, label by label."""
    if not (presented + name).isascii():
        return False
    theirs, ours = presented.lower().split("."), name.lower().split(".")
    if not all(re.fullmatch(r"[a-z0-9_-]{1,63}", label) for label in ours) or name[0] == "-" or ours[-1].isdigit():
        return False
    return theirs == ours or (theirs[0] == "*" and len(theirs) > 2 and theirs[1:] == ours[1:])


# -- SOCKS5 ---------------------------------------------------------------------------------------------------------

_BEHIND = ("smtp.example.org", "192.0.2.1", "2001:db8::1", "a" * 63 + ".example")
_ASKED = re.compile(
    rb"\x05(?:\x01\x00|\x02\x00\x02)(?P<login>\x01\x05alice\x0fs3cret-password)?"
    rb"(?:\x05\x01\x00(?:\x01.{4}|\x04.{16}|\x03(?:\x10smtp\.example\.org|\x47a{63}\.example))\x00\x19)?",
    re.DOTALL,
)


class _Mouthfuls(socket.socket):
    """A socket that gives at most so many octets at once, 0: all."""

    mouthful = 0

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        return super().recv(min(bufsize, self.mouthful or bufsize), flags)


def socks_replies(data: bytes) -> None:
    """An octet of switches, then all that a proxy says."""
    how, octets = data[0] if data else 0, data[1:]
    login, behind = bool(how & 1), _BEHIND[how >> 1 & 3]
    proxy = socks.Proxy("127.0.0.1", 1080, "alice", PASSWORD) if login else socks.Proxy("127.0.0.1", 1080)
    host = SmartHost(f"smtp://{behind}", "smtp", behind, 25, timeouts=_PATIENT)
    ours, theirs = socket.socketpair()
    with theirs, _Mouthfuls(fileno=ours.detach()) as made:
        made.mouthful = how >> 3
        theirs.sendall(octets)
        theirs.shutdown(socket.SHUT_WR)
        connected = True
        try:
            socks.connect(made, proxy, host, time.monotonic() + 5)
        except Failure as failure:
            connected = False
            assert failure.stage is Stage.CONNECT  # noqa: PT017
            checks.tells_nothing([checks.told(failure)], PASSWORD)
        rest = b"".join(iter(lambda: made.recv(65536), b""))
        made.shutdown(socket.SHUT_WR)
        said = b"".join(iter(lambda: theirs.recv(65536), b""))
    end = _end_of_replies(octets, login)
    assert connected == (end is not None), octets
    assert end is None or rest == octets[end:]
    asked = _ASKED.fullmatch(said)
    assert asked, said
    assert bool(asked["login"]) <= (octets[:2] == b"\5\2")


def _end_of_replies(octets: bytes, login: bool) -> int | None:
    """Where what a proxy says before it connects us ends (RFC 1928; RFC 1929); None: it does not."""
    begun = re.match(rb"\x05(?:\x00|\x02.\x00)" if login else rb"\x05\x00", octets, re.DOTALL)
    if begun is None:
        return None
    head = octets[begun.end() : begun.end() + 5]
    if len(head) < 5 or head[:2] != b"\5\0" or head[3] not in (1, 3, 4):
        return None
    end = begun.end() + 4 + {1: 4, 3: 1 + head[4], 4: 16}[head[3]] + 2
    return end if end <= len(octets) else None


# -- netrc ----------------------------------------------------------------------------------------------------------


def netrc_text(data: bytes) -> None:
    """A machine, a login, and a file, NUL between them; what stands in a file of secrets is told nobody."""
    machine, login, text = (*(data.split(b"\0", 2)), b"", b"")[:3]
    words = text.decode("utf-8", "surrogateescape")
    try:
        entries = netrc.entries(words, "netrc")
    except Failure as failure:
        said = checks.told(failure)
        assert re.fullmatch(r"netrc line [0-9]+ is not understood \([ -~]+\)", said), said
        assert int(said.split()[2]) <= words.count("\n") + 1
        return
    assert netrc.entries("\n".join(map(_written, entries)), "again") == entries
    assert all(repr(entry) == f"Entry({entry.machine!r}, ...)" for entry in entries)
    asked, user = machine.decode("utf-8", "surrogateescape"), login.decode("utf-8", "surrogateescape")
    found = netrc.password(entries, ("other.example", asked), user)
    lawful = {
        entry.password
        for entry in entries
        if entry.machine.lower() in ("", "other.example", asked.lower()) and entry.login in (None, user)
    }
    assert found is None or found in lawful


def _written(entry: netrc.Entry) -> str:
    """An entry as a line of a file."""
    words = [f"machine {_quoted(entry.machine)}" if entry.machine else "default"]
    words += [] if entry.login is None else [f"login {_quoted(entry.login)}"]
    words += [] if entry.password is None else [f"password {_quoted(entry.password)}"]
    return " ".join(words)


def _quoted(text: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


# -- OAuth ----------------------------------------------------------------------------------------------------------


def complaint(data: bytes) -> None:
    """An octet of switches, then what a server that does not take our token says about it."""
    how, challenge = data[0] if data else 0, data[1:]
    mechanism = oauth.Bearer(("OAUTHBEARER", "XOAUTH2")[how & 1], "alice", PASSWORD, sasl.Channel("a.example", 587))
    host = SmartHost("smtp://192.0.2.1", "smtp", "192.0.2.1", 25, tls=Tls("none"), timeouts=_PATIENT)
    refusal = b"235 2.7.0 in you go\r\n" if how & 2 else b"535 5.7.8 no\r\n"
    server = Wired(AFTER_SEND + b"334 " + base64.b64encode(challenge) + b"\r\n" + AFTER_SEND + refusal)
    told: list[str] = []
    connection = Connection(host, "client.example", lambda mark, line: told.append(line))
    connection.hide(*sasl.forms("alice", PASSWORD))
    try:
        connection.connect(dial=WiredOpening(host, [server]).take())
        connection.auth(mechanism)
    except Failure as failure:
        told.append(checks.told(failure))
        assert failure.lead == REFUSED  # noqa: PT017
        assert not how & 2
    else:
        assert how & 2
    finally:
        connection.close()
        server.end()
    first, second, last = bytes(server.said).split(b"\r\n")
    assert first == f"AUTH {mechanism.name} {sasl.encode(mechanism.initial or b'')}".encode()
    assert second in ((b"AQ==", b"")[how & 1], b"" if challenge else first.split()[2])
    assert not last
    checks.tells_nothing(told, PASSWORD)
