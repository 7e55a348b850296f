"""Let in who may ask: TLS and passwords by the web configuration, read anew when a file changes.

Certificates live for days and are replaced under a running agent.  A file that cannot be used then
leaves the last good state in force, and says so in the log.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ctypes
import hashlib
import hmac
import secrets
import ssl
from functools import cache, partial
from typing import TYPE_CHECKING

import structlog

from gpuward.agent import web_config
from gpuward.daemon.beside import beside
from gpuward.daemon.config import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from gpuward.agent.http_message import Request
    from gpuward.agent.web_config import TlsConfig, WebConfig

log = structlog.get_logger()

# After a wrong password: a hundred million guesses take three years.
WRONG_PAUSE_S = 1.0
# Of nobody: who guesses names learns nothing from how long the answer takes.
NOBODY = "$2b$10$abcdefghijklmnopqrstuuqflPDzB6gcMhKa1rZqKiun2YGL5sa2u"
# The quickest there is, to see whether bcrypt is known at all.
TRIAL = "$2b$04$abcdefghijklmnopqrstuu"
# struct crypt_data: 32 KiB in libxcrypt, 128 KiB and a little in the one before it.
CRYPT_DATA_BYTES = 256 << 10
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_CLIENTS = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}


class WebGuard:
    """What a web configuration asks of connections and requests."""

    def __init__(self, path: Path) -> None:
        """Read the files; raises ``ConfigError``."""
        self._path = path
        self._salt = secrets.token_bytes(16)
        # Of names and passwords that were right: checking one takes as long as 50 scrapes.
        self._right: set[bytes] = set()
        self._one_at_a_time = asyncio.Lock()
        self._seen = self._stamps(None)
        self._config, self._tls = self._load()
        self._seen = self._stamps(self._config)

    def tls(self) -> ssl.SSLContext | None:
        """Return how a new connection is encrypted; ``None``: not at all."""
        self._refresh()
        return self._tls

    async def lets_in(self, request: Request) -> bool:
        """Return whether ``request`` has a name and password, where those are asked for."""
        users = self._config.basic_auth_users
        if not users:
            return True
        name, password = _credentials(request.headers.get("authorization", ""))
        expected = users.get(name, NOBODY)
        digest = hashlib.sha256(self._salt + f"{expected}\0{password}".encode()).digest()
        if name in users and digest in self._right:
            return True
        async with self._one_at_a_time:
            # Beside the loop, which has other things to do for the tenth of a second.
            is_same = await beside("password", partial(_bcrypt, password, expected))
            is_right = is_same and name in users
            if not is_right:
                await asyncio.sleep(WRONG_PAUSE_S)
        if is_right:
            self._right.add(digest)
        return is_right

    def _refresh(self) -> None:
        stamps = self._stamps(self._config)
        if stamps == self._seen:
            return
        self._seen = stamps
        try:
            self._config, self._tls = self._load()
        except ConfigError as error:
            log.warning("web_config.not_reloaded", reason=str(error))
            return
        self._right.clear()
        self._seen = self._stamps(self._config)
        log.info("web_config.reloaded", path=str(self._path))

    def _load(self) -> tuple[WebConfig, ssl.SSLContext | None]:
        config = web_config.load(self._path)
        if config.basic_auth_users:
            try:
                _bcrypt("", TRIAL)
            except (OSError, AttributeError) as error:
                raise ConfigError(
                    f"{self._path}: basic_auth_users need libcrypt with bcrypt: {error}"
                ) from error
        tls = config.tls_server_config
        return config, None if tls is None else self._context(tls)

    def _context(self, tls: TlsConfig) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _VERSIONS[tls.min_version]
        context.verify_mode = _CLIENTS[tls.client_auth_type]
        folder = self._path.parent
        try:
            context.load_cert_chain(folder / tls.cert_file, folder / tls.key_file)
            if tls.client_ca_file:
                context.load_verify_locations(folder / tls.client_ca_file)
        except OSError as error:
            files = ", ".join(filter(None, (tls.cert_file, tls.key_file, tls.client_ca_file)))
            raise ConfigError(f"{self._path}: tls_server_config: {files}: {error}") from error
        return context

    def _stamps(self, config: WebConfig | None) -> list[tuple[int, int, int] | None]:
        tls = None if config is None else config.tls_server_config
        names = () if tls is None else (tls.cert_file, tls.key_file, tls.client_ca_file)
        paths = (self._path, *(self._path.parent / name for name in names if name))
        return [_stamp(path) for path in paths]


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _credentials(authorization: str) -> tuple[str, str]:
    """Return name and password of RFC 7617; two empty ones where there are none."""
    scheme, _, encoded = authorization.partition(" ")
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    name, _, password = decoded.partition(":")
    return (name, password) if scheme.lower() == "basic" else ("", "")


def _bcrypt(password: str, expected: str) -> bool:
    """Return whether ``expected`` is of ``password``; raises ``OSError`` without bcrypt."""
    # A byte 0 would end it early, and make a shorter one right.
    if "\0" in password:
        return False
    room = ctypes.create_string_buffer(CRYPT_DATA_BYTES)
    made = _libcrypt().crypt_r(password.encode(), expected.encode(), room)
    if made is None or not made.startswith(b"$2"):
        raise OSError("it does not know bcrypt")
    return hmac.compare_digest(made, expected.encode())


@cache
def _libcrypt() -> ctypes.CDLL:
    """Return libxcrypt under one of its two names; raises ``OSError``.

    ``ctypes.util.find_library`` would start other programs to find it.
    """
    try:
        library = ctypes.CDLL("libcrypt.so.1")
    except OSError:
        library = ctypes.CDLL("libcrypt.so.2")
    library.crypt_r.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p)
    library.crypt_r.restype = ctypes.c_char_p
    return library
