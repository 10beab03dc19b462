"""Copies a file from a URL to this machine: complete and checked, or not at all.

Failed attempts are repeated. A server that sends nothing, or next to nothing, counts as gone.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import fsspec
from fsspec.callbacks import Callback

from mpo_lightning.files.disk import DISK_ERRORS

ATTEMPTS = 6
"""Attempts of a fetch. The pauses of 0.9, 1.8, 3.6, 7.2 and 14.4 seconds between them take less than half a minute."""

SILENCES = 3
"""Timed-out attempts after which a fetch gives up: each has cost as long as all pauses together."""

PAUSE = 0.9
"""Seconds before the second attempt; each later pause is twice as long."""

STALL = 30.0
"""Seconds without a byte after which an HTTP server counts as gone; also the period over which `SLOWEST` is measured.
"""

SLOWEST = 1024.0
"""Lowest rate in bytes per second; a slower server counts as silent, since a tar would take days."""


class CannotFetch(Exception):
    """Raised when a fetch fails. The message says what was fetched, how often it was tried, and why it failed."""


class TooSlow(Exception):
    """Raised when a server sends next to nothing."""


def fetch(url: str, target: Path, check: Callable[[Path], Any], limit: int | None = None) -> None:
    """Copies a file from a URL, checks it, and only then gives it its name.

    Args:
        url: URL of the file.
        target: path of the copy.
        check: function that raises ValueError for wrong content.
        limit: most bytes; a server that sends more is cut off.

    Raises:
        CannotFetch: every attempt failed.
        OSError: the target's disk is full or read-only.
    """
    arriving = target.with_name(f".{target.name}.partial")
    if url.partition("://")[0].rpartition("::")[2] not in fsspec.available_protocols():
        raise CannotFetch(f"{url}: no installed package reads {url.partition('://')[0]}://")
    reason, attempts, silences = "", 0, 0
    while attempts < ATTEMPTS and silences < SILENCES:
        if attempts:
            time.sleep(PAUSE * 2 ** (attempts - 1))
        attempts += 1
        try:
            _download(url, arriving, limit)
            check(arriving)
            with arriving.open("rb") as file:
                os.fsync(file.fileno())
            arriving.rename(target)
            return
        except FileNotFoundError:
            raise CannotFetch(f"{url}: no such file") from None
        except ImportError as error:
            raise CannotFetch(f"{url}: {error}") from None
        except Exception as error:  # each protocol has errors of its own
            if isinstance(error, OSError) and error.errno in DISK_ERRORS:
                raise
            if _is_refusal(error):
                raise CannotFetch(
                    f"{url}: access is refused ({' '.join(str(error).split()):.100}); give this machine credentials, "
                    "such as those in ~/.netrc, or make the files readable"
                ) from None
            silences += isinstance(error, (TimeoutError, TooSlow))
            said = (
                f"no answer for {STALL:g} seconds" if isinstance(error, TimeoutError) else " ".join(str(error).split())
            )
            reason = f"{type(error).__name__}: {said}" if isinstance(error, aiohttp.ClientError) or not said else said
        finally:
            arriving.unlink(missing_ok=True)
    raise CannotFetch(f"{url}: {attempts} attempts failed; last error: {reason}")


def _is_refusal(error: Exception) -> bool:
    """Whether a server refuses access, which another attempt does not change."""
    no_file = isinstance(error, PermissionError) and error.filename is None  # of an object store
    return no_file or getattr(error, "status", None) in (401, 403)


def _download(url: str, target: Path, limit: int | None) -> None:
    scheme = url.partition("://")[0]
    options: dict[str, Any] = {}
    if scheme in ("http", "https"):
        # These limit silence; a limit on the whole transfer would fail on slow networks.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=STALL, sock_read=STALL)
        # Use the environment's proxies and the passwords in ~/.netrc.
        options["client_kwargs"] = {"timeout": timeout, "trust_env": True}
    files, path = fsspec.core.url_to_fs(url, **options)
    files.get_file(path, str(target), callback=_Limits(limit))


class _Limits(Callback):
    """Ends a transfer that sends too many bytes, or next to none."""

    def __init__(self, limit: int | None) -> None:
        super().__init__()
        self.limit = limit
        self._since, self._then = time.monotonic(), 0

    def relative_update(self, inc: int = 1) -> None:
        super().relative_update(inc)
        if self.limit is not None and self.value > self.limit:
            raise ValueError(f"it sends more than the expected {self.limit:,} bytes")
        passed = time.monotonic() - self._since
        if passed >= STALL:
            if self.value - self._then < SLOWEST * passed:
                raise TooSlow(f"it sent {self.value - self._then:,} bytes in {passed:.0f} seconds")
            self._since, self._then = time.monotonic(), self.value
