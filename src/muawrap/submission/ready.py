"""One smart host, brought to where MAIL may follow: connected, TLS by the policy, AUTH where a user is set."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from muawrap.failure import REFUSED, Failure, Stage
from muawrap.mail import SmartHost
from muawrap.submission import sasl, tls
from muawrap.submission.connection import Connection, Trace
from muawrap.submission.opening import Opening

_TLS_IS_NEEDED = "AUTH goes over verified TLS only: use submissions:// or submission://, or auth.allow_plaintext"
_AT_ONCE = "submissions:// is TLS at once; "
_POLICY, _FINGERPRINT = "tls.policy decides", "tls.fingerprint wants TLS, whatever tls.policy says"
_VERIFIED_IS_NEEDED = "with tls.verify = false AUTH needs auth.allow_plaintext; better name the tls.fingerprint"

Make = Callable[[SmartHost, str, Trace | None, float], Connection]
"""What makes the connection of each attempt: host, our own name, trace, and the end of timeouts.total."""


def ready(opening: Opening, hostname: str, trace: Trace | None, make: Make = Connection) -> Connection:
    """A connection that stands where MAIL may follow: TLS by the policy, AUTH where a user is set. Raises Failure."""
    if opening.failure is not None:
        raise opening.failure
    host = opening.host
    at_once = host.scheme == "submissions"
    broken = Failure("no attempt was made")
    contexts = _contexts(opening)
    for secure in _attempts(host):
        retried = broken.stage is not None
        if retried and secure is False and not isinstance(broken.__cause__, ssl.SSLCertVerificationError):
            continue  # it was not the certificate that stood in the way
        connection = make(host, hostname, trace, opening.end)
        connection.contexts = contexts
        for secret in filter(None, (opening.password, opening.token)):
            # From the first word on: another host of the list may have learned it already.
            connection.hide(*sasl.forms(host.auth.user, secret))
        try:
            connection.connect(dial=opening.take())
            if at_once:
                connection.handshake(bool(secure))
            connection.greeting()
            connection.ehlo()
            if not at_once and secure is not None:
                _starttls(connection, secure)
            _authenticate(connection, opening)
            return connection
        except BaseException as error:
            connection.leave()
            if not isinstance(error, Failure):
                raise
            opening.explain(error)
            if error.stage is Stage.CONNECT and broken.stage is not None:
                raise broken from error  # the host has been connected, whatever became of it since (RULES C6)
            if error.stage is not Stage.TLS:
                raise
            broken = error
            if trace is not None and len(_attempts(host)) > 1:
                trace("---", str(error))  # another one may do without what this one lacked
    raise broken


def _attempts(host: SmartHost) -> tuple[bool | None, ...]:
    """TLS as it is tried, each on a new connection: verified, encrypted only, none (muawrap.toml(5), tls.policy)."""
    if host.tls.policy == "none":
        return (None,)
    verified = not host.tls.is_unverified
    if host.tls.is_required or (host.auth.is_wanted and not host.auth.allow_plaintext):
        return (verified,)
    encrypted = (True, False) if verified else (False,)
    return encrypted if host.scheme == "submissions" else (*encrypted, None)


def _contexts(opening: Opening) -> dict[bool, ssl.SSLContext]:
    """What TLS is going to need, made while the connection is under way. Raises Failure for a file that cannot be."""
    host = opening.host
    if not (host.tls.is_required or host.tls.ca_file or host.tls.client_cert):
        return {}
    try:
        return {secure: tls.context(host, secure) for secure in _attempts(host) if secure is not None}
    except Failure as failure:
        opening.close()
        what, advice = failure.what, failure.advice
        raise Failure(what, lead=failure.lead, stage=Stage.TLS, host=str(host), advice=advice) from failure


def _starttls(connection: Connection, verified: bool) -> None:
    host = connection.smart_host
    required = host.tls.is_required
    advice = ("" if host.scheme == "lmtp" else _AT_ONCE) + (_FINGERPRINT if host.tls.fingerprint else _POLICY)
    if not connection.capabilities.offers("STARTTLS"):
        if required:
            connection.stage = Stage.STARTTLS
            raise connection.failure("the server does not offer TLS", lead=REFUSED, advice=advice)
        return
    try:
        connection.starttls(verified=verified)
    except Failure as failure:
        if required or failure.reply is None or failure.reply.code == 421:
            if failure.advice.endswith(_POLICY):
                failure.advice = advice
            raise
        return  # offered and then refused is not offered, and the dialogue stands where it stood (RFC 3207, 4)
    connection.ehlo()


def _authenticate(connection: Connection, opening: Opening) -> None:
    """AUTH where it is wanted, by the strongest mechanism that may be used.

    No second one follows a refusal, but for SCRAM after one of a channel binding before anything was proved: see scram.
    """
    host, auth = connection.smart_host, connection.smart_host.auth
    if not auth.is_wanted:
        return
    connection.stage = Stage.AUTH
    if not connection.verified and not auth.allow_plaintext:
        raise _not_protected(connection)
    offered = connection.capabilities.mechanisms
    binding = _binding(connection, offered)
    shows = bool(host.tls.client_cert) or host.is_local
    wanted = sasl.wanted(auth, binding is not None, shows)
    name = sasl.choose(offered, wanted)
    if not name:
        raise _not_offered(connection, wanted)
    if name == "EXTERNAL" and not (connection.verified or host.is_local):
        raise _not_protected(connection)
    unbound = binding is not None and any(map(_is_bound, wanted)) and not any(map(_is_bound, offered))
    in_the_open = not (connection.verified or host.is_local)  # then no advice is to show the password
    channel = sasl.Channel(host.host, host.port, binding, unbound, () if in_the_open else offered)
    try:
        secret = opening.password
        if name in sasl.BY_TOKEN:
            secret = opening.token = opening.token or opening.find("token")
            connection.hide(*sasl.forms(auth.user, secret))
        mechanism = _mechanism(name, auth.user, secret, channel)
    except Failure as failure:
        raise connection.failure(failure.what, lead=failure.lead, advice=failure.advice) from failure
    try:
        connection.auth(mechanism)
    except Failure as failure:
        other = sasl.choose(offered, sasl.SCRAM)
        refused = failure.reply is not None and failure.reply.kind == 5
        if auth.mechanisms or not (refused and mechanism.unproved and other):
            raise
        connection.auth(_mechanism(other, auth.user, secret, channel._replace(binding=None, unbound=False)))


def _mechanism(name: str, user: str, secret: str, channel: sasl.Channel) -> sasl.Mechanism:
    """A mechanism ready to run; `secret` is password or token. Raises Failure where it cannot be used with these."""
    if name.startswith("SCRAM-"):
        from muawrap.submission import scram

        return scram.Scram(name, user, secret, channel)
    if name in sasl.BY_TOKEN:
        from muawrap.submission import oauth

        return oauth.Bearer(name, user, secret, channel)
    return sasl.mechanism(name, user, secret)


def _is_bound(mechanism: str) -> bool:
    return mechanism.endswith("-PLUS")


def _binding(connection: Connection, offered: tuple[str, ...]) -> bytes | None:
    """What a mechanism of those offered could be bound to; None: to nothing."""
    if not isinstance(connection.sock, ssl.SSLSocket) or not any(name.startswith("SCRAM-") for name in offered):
        return None
    from muawrap.submission import binding

    return binding.end_point(connection.sock.getpeercert(True) or b"")


def _not_protected(connection: Connection) -> Failure:
    what = f"the connection is not protected (TLS: {connection.tls_name})"
    advice = _VERIFIED_IS_NEEDED if connection.smart_host.tls.is_unverified else _TLS_IS_NEEDED
    return connection.failure(what, lead=REFUSED, advice=advice)


def _not_offered(connection: Connection, wanted: tuple[str, ...]) -> Failure:
    offered = connection.capabilities.mechanisms
    if not wanted:
        return connection.failure(
            f"nothing of auth.mechanisms can be used: {', '.join(connection.smart_host.auth.mechanisms)}",
            lead=REFUSED,
            advice="-PLUS needs TLS, EXTERNAL tls.client_cert, OAUTHBEARER and XOAUTH2 auth.token,"
            " most others auth.password",
        )
    names = " or ".join(filter(None, (", ".join(wanted[:-1]), wanted[-1])))
    what = f"AUTH {' '.join(offered)}, but not {names}" if offered else "no AUTH"
    advice = "auth.mechanisms names others"
    if not offered:
        advice = "a server often offers it after TLS only"
    elif not set(offered) - set(sasl.BY_TOKEN) and wanted[0] not in sasl.BY_TOKEN:
        advice = "it wants a token (OAuth2): auth.token says where that is"
    elif wanted[0] in sasl.BY_TOKEN and not connection.smart_host.auth.password:
        advice = "it takes no token: auth.password says where a password is"
    return connection.failure(f"the server offers {what}", lead=REFUSED, advice=advice)
