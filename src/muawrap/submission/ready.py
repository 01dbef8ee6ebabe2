"""One smart host, brought to where MAIL may follow: connected, TLS by the policy, AUTH where a user is set."""

from __future__ import annotations

import ssl

from muawrap.failure import REFUSED, Failure, Stage
from muawrap.mail import SmartHost
from muawrap.submission import sasl, tls
from muawrap.submission.connection import Connection, Trace
from muawrap.submission.opening import Opening

_TLS_IS_NEEDED = "AUTH goes over verified TLS only: use submissions:// or submission://, or auth.allow_plaintext"


def ready(opening: Opening, hostname: str, trace: Trace | None) -> Connection:
    """A connection that stands where MAIL may follow: TLS by the policy, AUTH where a user is set. Raises Failure."""
    if opening.failure is not None:
        raise opening.failure
    host = opening.host
    at_once = host.scheme == "submissions"
    broken = Failure("no attempt was made")
    contexts = _contexts(opening)
    for secure in _attempts(host):
        if secure is False and not isinstance(broken.__cause__, ssl.SSLCertVerificationError):
            continue  # it was not the certificate that stood in the way
        connection = Connection(host, hostname, trace, opening.end)
        connection.contexts = contexts
        if opening.password:
            # From the first word on: another host of the list may have learned it already.
            connection.hide(*sasl.forms(host.auth.user, opening.password))
        try:
            connection.connect(dial=opening.take())
            if at_once:
                connection.handshake(bool(secure))
            connection.greeting()
            connection.ehlo()
            if not at_once and secure is not None:
                _starttls(connection, secure)
            _authenticate(connection, opening.password)
            return connection
        except BaseException as error:
            connection.leave()
            if isinstance(error, Failure) and error.stage is Stage.CONNECT and broken.stage is not None:
                raise broken from error  # the host has been connected, whatever became of it since (RULES C6)
            if not isinstance(error, Failure) or error.stage is not Stage.TLS:
                raise
            broken = error
            if trace is not None and len(_attempts(host)) > 1:
                trace("---", str(error))  # another one may do without what this one lacked
    raise broken


def _attempts(host: SmartHost) -> tuple[bool | None, ...]:
    """TLS as it is tried, each on a new connection: verified, encrypted only, none (muawrap.toml(5), tls.policy)."""
    if host.tls.policy == "none":
        return (None,)
    if host.tls.policy == "required" or (host.auth.user and not host.auth.allow_plaintext):
        return (True,)
    return (True, False) if host.scheme == "submissions" else (True, False, None)


def _contexts(opening: Opening) -> dict[bool, ssl.SSLContext]:
    """What TLS is going to need, made while the connection is under way. Raises Failure for a CA file that is none."""
    host = opening.host
    if host.tls.policy != "required" and not (host.tls.ca_file and host.tls.policy == "if-offered"):
        return {}
    try:
        return {True: tls.context(host, verified=True)}
    except Failure as failure:
        opening.close()
        what, advice = failure.what, failure.advice
        raise Failure(what, lead=failure.lead, stage=Stage.TLS, host=str(host), advice=advice) from failure


def _starttls(connection: Connection, verified: bool) -> None:
    required = connection.smart_host.tls.policy == "required"
    if not connection.capabilities.offers("STARTTLS"):
        if required:
            connection.stage = Stage.STARTTLS
            raise connection.failure(
                "the server does not offer TLS",
                lead=REFUSED,
                advice="submissions:// is TLS at once; tls.policy decides",
            )
        return
    try:
        connection.starttls(verified=verified)
    except Failure as failure:
        if required or failure.reply is None or failure.reply.code == 421:
            raise
        return  # offered and then refused is not offered, and the dialogue stands where it stood (RFC 3207, 4)
    connection.ehlo()


def _authenticate(connection: Connection, password: str) -> None:
    auth = connection.smart_host.auth
    if not auth.user:
        return
    connection.stage = Stage.AUTH
    if not connection.verified and not auth.allow_plaintext:
        what = f"the connection is not protected (TLS: {connection.tls_name})"
        raise connection.failure(what, lead=REFUSED, advice=_TLS_IS_NEEDED)
    offered = connection.capabilities.mechanisms
    name = sasl.choose(offered, auth.mechanisms)
    if not name:
        wanted = " or ".join(auth.mechanisms or sasl.BY_DEFAULT)
        what = f"AUTH {' '.join(offered)}, but not {wanted}" if offered else "no AUTH"
        advice = "auth.mechanisms names others" if offered else "a server often offers it after TLS only"
        raise connection.failure(f"the server offers {what}", lead=REFUSED, advice=advice)
    connection.auth(sasl.mechanism(name, auth.user, password))
