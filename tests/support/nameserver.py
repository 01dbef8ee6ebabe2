"""A real DNS server on the loopback, over UDP and TCP: zones in a few lines, and the troubles a script asks for.

    with NameServer({"_submissions._tcp.client.example": ["SRV 0 1 465 mail.client.example."]}) as server:

A name without records does not exist; one with an empty list exists, and has none of any type. Instead of records a
name may have a trouble: SERVFAIL, REFUSED, SILENCE (no answer), GARBAGE, or LARGE (truncated over UDP, whole over TCP)
beside its records. Aliases are followed, as a server that recurses does it.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections import Counter
from collections.abc import Mapping, Sequence

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.rrset

SERVFAIL = "!SERVFAIL"
REFUSED = "!REFUSED"
SILENCE = "!SILENCE"
GARBAGE = "!GARBAGE"
LARGE = "!LARGE"

CHAIN = 20  # aliases that are followed; a client that follows as many has no bound


class NameServer:
    """`asked` counts the questions by name and type, `over` the transports they came by."""

    def __init__(self, zones: Mapping[str, Sequence[str]], host: str = "127.0.0.1", port: int = 0) -> None:
        self.zones = self.read(zones)
        self.asked: Counter[str] = Counter()
        self.over: Counter[str] = Counter()
        self._tcp = socket.create_server((host, port), backlog=64)
        self.host, self.port = self._tcp.getsockname()[:2]
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind((self.host, self.port))
        self._closing = False
        self._threads = [threading.Thread(target=serve, daemon=True) for serve in (self._serve_udp, self._serve_tcp)]

    def __enter__(self) -> NameServer:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closing = True
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", (self.host, self.port))
        socket.create_connection((self.host, self.port)).close()
        for thread in self._threads:
            thread.join(10)
        self._udp.close()
        self._tcp.close()

    @staticmethod
    def read(zones: Mapping[str, Sequence[str]]) -> dict[dns.name.Name, list[str]]:
        """The zones as `zones` holds them, which may change at any time."""
        return {dns.name.from_text(name): list(records) for name, records in zones.items()}

    def resolver(self) -> dns.resolver.Resolver:
        """One that asks this server and no other."""
        made = dns.resolver.Resolver(configure=False)
        made.nameservers, made.port = [self.host], self.port
        return made

    def _serve_udp(self) -> None:
        while True:
            octets, peer = self._udp.recvfrom(65535)
            if self._closing:
                return
            reply = self._reply(octets, "udp")
            if reply:
                self._udp.sendto(reply, peer)

    def _serve_tcp(self) -> None:
        while True:
            channel, _ = self._tcp.accept()
            with channel:
                if self._closing:
                    return
                head = channel.recv(2, socket.MSG_WAITALL)
                octets = channel.recv(struct.unpack("!H", head)[0], socket.MSG_WAITALL) if len(head) == 2 else b""
                reply = self._reply(octets, "tcp") if octets else b""
                if reply:
                    channel.sendall(struct.pack("!H", len(reply)) + reply)

    def _reply(self, octets: bytes, transport: str) -> bytes:
        query = dns.message.from_wire(octets)
        question = query.question[0]
        self.asked[f"{question.name.to_text(omit_final_dot=True)} {dns.rdatatype.to_text(question.rdtype)}"] += 1
        self.over[transport] += 1
        reply = dns.message.make_response(query, recursion_available=True)
        name, known = question.name, self.zones.get(question.name)
        for _ in range(CHAIN):
            alias = next((one for one in known or () if one.startswith("CNAME ")), None)
            if alias is None or question.rdtype == dns.rdatatype.CNAME:
                break
            reply.answer.append(dns.rrset.from_text(name, 60, "IN", *alias.split(" ", 1)))
            name = dns.name.from_text(alias.split(" ")[1])
            known = self.zones.get(name)
        if SILENCE in (known or ()):
            return b""
        if GARBAGE in (known or ()):
            return octets[:2] + b"\x84\x00\x00\x01\x00\x09\x00\x00\x00\x00 this is no answer"
        if LARGE in (known or ()) and transport == "udp":
            reply.flags |= dns.flags.TC
            return reply.to_wire()
        for trouble in SERVFAIL, REFUSED:
            if trouble in (known or ()):
                reply.set_rcode(dns.rcode.from_text(trouble[1:]))
                return reply.to_wire()
        if known is None:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        kind = dns.rdatatype.to_text(question.rdtype)
        texts = [one.split(" ", 1)[1] for one in known or () if one.split(" ")[0] == kind]
        if texts:
            reply.answer.append(dns.rrset.from_text(name, 60, "IN", kind, *texts))
        return reply.to_wire(max_size=65535)
