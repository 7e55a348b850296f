"""Page by e-mail, through the mail server that a site has.

Mail is slow, unacknowledged, and read by nobody asleep: a second path, or a record.  Every attempt
has the same Message-ID, by which servers and readers know it again; all mail of an incident is one
thread.  smtplib blocks, so it runs in a thread; giving up closes its socket, which ends the thread.
"""

from __future__ import annotations

import asyncio
import re
import smtplib
import socket
import ssl
from contextlib import suppress
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from gpuward.coordinator.notifiers.provider import LOOPBACK, TIMEOUT_S, Pace, read_secret
from gpuward.coordinator.page import Message, Outcome, Refused, Retry, Sent, as_text
from gpuward.coordinator.review.wording import plain
from gpuward.daemon.beside import beside
from gpuward.daemon.config import ConfigError

if TYPE_CHECKING:
    from gpuward.daemon.clock import Clock

# What a mail server takes of one sender without asking questions.
MAILS_A_MINUTE = 60
ADDRESS = re.compile(r"[^@\s<>,;]+@[^@\s<>,;]+")
# RFC 5321: 4xx asks to come back, 5xx is for good.
FOR_GOOD = 500
REPLY_LIMIT = 200


class EmailConfig(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    tag_field="type",
    tag="email",
):
    """A channel that sends mail."""

    name: Annotated[str, Meta(description="What people and rotations call this channel; unique.")]
    server: Annotated[str, Meta(description="Host name of the mail server.")]
    sender: Annotated[str, Meta(description="Address that mail is from.")]
    to: Annotated[tuple[str, ...], Meta(description="Addresses that mail is for; at least one.")]
    port: Annotated[int, Meta(description="587 for `starttls`, 465 for `tls`, usually.")] = 587
    security: Annotated[
        Literal["starttls", "tls", "none"],
        Meta(description="`none` only to a server on loopback."),
    ] = "starttls"
    user: Annotated[str, Meta(description="Who logs in; empty: nobody does.")] = ""
    password_file: Annotated[
        str, Meta(description="Path of a file with the password of `user`.")
    ] = ""


class Email:
    """Sends each page to all addresses of one channel."""

    def __init__(self, config: EmailConfig, password: str, clock: Clock) -> None:
        self._config = config
        self._password = password
        self._clock = clock
        self._pace = Pace(MAILS_A_MINUTE, 60.0, clock)

    async def send(self, message: Message) -> Outcome:
        if wait_s := self._pace.take():
            return Retry("its limit of mails is reached", wait_s)
        mail = _mail(message, self._config, datetime.fromtimestamp(self._clock.wall_s(), UTC))
        session = _Session(self._config, self._password)
        try:
            return await beside("mail", partial(session.deliver, mail))
        except asyncio.CancelledError:
            session.abort()
            raise

    async def close(self) -> None:
        """Nothing is held open between mails."""


def create(config: EmailConfig, clock: Clock) -> Email:
    """Return the notifier that the configuration describes; raises ``ConfigError``."""
    where = f"notifiers.{config.name}"
    if not config.to:
        raise ConfigError(f"{where}.to: empty; mail to nobody pages nobody")
    for place, addresses in (("sender", (config.sender,)), ("to", config.to)):
        for address in addresses:
            if not (address.isascii() and ADDRESS.fullmatch(address)):
                raise ConfigError(f"{where}.{place}: not a mail address: {address!r}")
    if config.security == "none" and config.server not in LOOPBACK:
        raise ConfigError(f"{where}.security: none is for loopback only; use starttls or tls")
    if bool(config.user) != bool(config.password_file):
        raise ConfigError(f"{where}: user and password_file go together")
    password = ""
    if config.password_file:
        password = read_secret(config.password_file, f"{where}.password_file")
    return Email(config, password, clock)


class _Session:
    """One connection for one mail, in a thread of its own."""

    def __init__(self, config: EmailConfig, password: str) -> None:
        self._config = config
        self._password = password
        self._smtp: smtplib.SMTP | None = None

    def deliver(self, mail: EmailMessage) -> Outcome:
        config = self._config
        try:
            with self._connect() as smtp:
                self._smtp = smtp
                if config.security == "starttls":
                    smtp.starttls(context=ssl.create_default_context())
                if config.user:
                    smtp.login(config.user, self._password)
                refused = smtp.send_message(mail)
        except smtplib.SMTPException as error:
            return _trouble(error)
        except OSError as error:
            return Retry(f"{config.server}: {error}"[:REPLY_LIMIT])
        # One of several addresses may be wrong: the page has arrived, at the others.
        return Sent() if len(refused) < len(config.to) else Refused("every address was refused")

    def abort(self) -> None:
        """End ``deliver`` from outside: its next read or write fails."""
        if self._smtp is not None and self._smtp.sock is not None:
            with suppress(OSError):
                self._smtp.sock.shutdown(socket.SHUT_RDWR)

    def _connect(self) -> smtplib.SMTP:
        config = self._config
        name = socket.gethostname()
        if config.security == "tls":
            context = ssl.create_default_context()
            return smtplib.SMTP_SSL(
                config.server, config.port, name, timeout=TIMEOUT_S, context=context
            )
        return smtplib.SMTP(config.server, config.port, name, timeout=TIMEOUT_S)


def _trouble(error: smtplib.SMTPException) -> Outcome:
    """Return what ``error`` means for the page; never with what a server says of a password."""
    match error:
        case smtplib.SMTPRecipientsRefused(recipients=recipients):
            codes = [code for code, _ in recipients.values()]
            reason = f"addresses refused: {', '.join(map(str, codes))}"
            return Refused(reason) if min(codes) >= FOR_GOOD else Retry(reason)
        case smtplib.SMTPAuthenticationError(smtp_code=code):
            reason = f"status {code} to the login"
            return Refused(reason) if code >= FOR_GOOD else Retry(reason)
        case smtplib.SMTPResponseException(smtp_code=code, smtp_error=said):
            text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
            reason = plain(f"status {code}: {text}")[:REPLY_LIMIT]
            return Refused(reason) if code >= FOR_GOOD else Retry(reason)
        case smtplib.SMTPNotSupportedError():
            return Refused(plain(str(error))[:REPLY_LIMIT])
        case _:
            return Retry(plain(f"{type(error).__name__}: {error}")[:REPLY_LIMIT])


def _mail(message: Message, config: EmailConfig, at: datetime) -> EmailMessage:
    domain = config.sender.rpartition("@")[2]
    mail = EmailMessage(policy=SMTP)
    mail["Subject"] = plain(message.summary)
    mail["From"] = config.sender
    mail["To"] = ", ".join(config.to)
    mail["Date"] = format_datetime(at)
    mail["Message-ID"] = f"<{message.id}@{domain}>"
    mail["References"] = f"<{message.incident_id}@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(as_text(message) + "\n")
    return mail
