"""What one call is about: who asks under which configuration; its messages are routed, offered and kept here."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from muawrap import report
from muawrap.config import Config
from muawrap.failure import Failure
from muawrap.mail import Body, Invocation, Message, Transaction, has_long_lines
from muawrap.routing import redirect, transaction
from muawrap.routing.aliases import Aliases
from muawrap.routing.forward import Forwards, include
from muawrap.routing.redirect import Expansion

if TYPE_CHECKING:
    from muawrap.keeping import Given  # loaded when there is something to keep

Later = Callable[["Errand", "Given", Failure, str], str]
"""Takes a message that could not be sent now, why, and its Message-ID, to send it later; its name. Raises Failure."""


class Errand:
    """One caller and one configuration."""

    def __init__(self, settings: Config) -> None:
        self.settings = settings
        self.who = transaction.caller()
        if settings.keep_failed:
            # Loaded before anything can be lost: a signal may come in the middle of another import that it needs.
            from muawrap import keeping

            self._write_down = keeping.keep
        self._world = redirect.World(
            aliases=Aliases(settings.aliases, settings.aliases_may_be_missing),
            forward=Forwards(settings.forward),
            include=include,
            host_local=settings.host_local,
            local_domains=frozenset(settings.local_domains),
            admin=settings.admin,
            qualify_domain=settings.qualify_domain,
            sees=lambda user: os.getuid() == 0 or user == self.who.login,
        )

    def facts(self) -> report.Facts:
        """For the log lines of one message."""
        facts = report.Facts()
        facts.follow(self.settings)
        return facts

    def route(self, addresses: list[str]) -> Expansion:
        """Who gets the message. Raises Failure."""
        return redirect.expand(addresses, self._world)

    def offer(
        self, invocation: Invocation, text: Message, expansion: Expansion, facts: report.Facts
    ) -> Transaction | None:
        """What the smart hosts are offered; None where everything was discarded. Raises Failure."""
        facts.recipients = tuple(recipient.shown for recipient in expansion.recipients)
        facts.notes = [("discarded", trail) for trail in expansion.discarded]
        if not expansion.recipients:
            return None
        made = transaction.build(invocation, self.settings, text, expansion.recipients, self.who)
        facts.message_id, facts.sender = made.message_id, made.ways[0].sender
        if made.body.long_lines and self.settings.long_lines == "encode":
            from muawrap.submission import mime

            made = mime.without_long_lines(made)
        if made.body.long_lines or has_long_lines(made.ways[0].header):
            facts.notes.append(("longline", "pass"))
        return made

    def agree(self, invocation: Invocation, expansion: Expansion) -> None:
        """Whether all these recipients can have one transaction (RULES B4). Raises Failure."""
        if expansion.recipients:
            transaction.build(invocation, self.settings, Message((), Body()), expansion.recipients, self.who)

    def keeps(
        self,
        invocation: Invocation,
        named: list[str],
        text: Message,
        facts: report.Facts,
        later: Later | None = None,
    ) -> None:
        """From now on a failure leaves a copy of the message, where the owner asked for one.

        `later` takes it instead where it may be tried again; without it nothing is (RULES A4).
        """

        def given() -> Given:
            from muawrap.keeping import Given

            return Given(invocation, named, text, self._default_sender(facts))

        if self.settings.keep_failed:
            facts.keep = lambda failure: self._keep(failure, given(), facts)
        if later is not None:
            facts.later = lambda failure: later(self, given(), failure, facts.message_id)

    def _keep(self, failure: Failure, given: Given, facts: report.Facts) -> str:
        """Write a copy of a message that was not sent; its path. Raises Failure."""
        return self._write_down(self.settings.keep_failed, given, failure, facts.message_id, self.route)

    def _default_sender(self, facts: report.Facts) -> str:
        """Whose mail it is where no -f says so."""
        if facts.sender is not None:
            return facts.sender
        domain = self.settings.qualify_domain  # it failed before anybody asked
        return transaction.login_at(self.who, domain if "." in domain else "")
