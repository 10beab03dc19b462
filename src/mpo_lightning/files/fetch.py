"""A file at a URL, copied here: whole and looked at, or not at all. Attempts are repeated, and a server that falls
silent, or all but silent, counts as gone.
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
"""Of a fetch, with pauses of 0.9, 1.8, 3.6, 7.2 and 14.4 seconds between them: less than half a minute together."""

SILENCES = 3
"""Attempts that end because the server fell silent, after which no other is made: each has cost as long as all pauses
together.
"""

PAUSE = 0.9
"""Seconds before the second attempt; each further pause is twice as long."""

STALL = 30.0
"""Seconds without a byte after which an HTTP server counts as gone; and over which each server has to keep to
`SLOWEST`.
"""

SLOWEST = 1024.0
"""Bytes a second; a server that sends fewer is as good as silent, since a tar would take days."""


class CannotFetch(Exception):
    """One sentence: what, how often it was tried, and why it failed."""


class TooSlow(Exception):
    """A server that sends next to nothing."""


def fetch(url: str, target: Path, check: Callable[[Path], Any], limit: int | None = None) -> None:
    """Copies a file from a URL, looks at it, and only then gives it its name.

    Args:
        url: of the file.
        target: its name here.
        check: raises ValueError for content that is not as it should be.
        limit: most bytes; a server that sends more is cut off.

    Raises:
        CannotFetch: every attempt failed.
        OSError: the target's disk.
    """
    arriving = target.with_name(f".{target.name}.partial")
    if url.partition("://")[0].rpartition("::")[2] not in fsspec.available_protocols():
        raise CannotFetch(f"{url}: there is nothing that reads {url.partition('://')[0]}://")
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
            silences += isinstance(error, (TimeoutError, TooSlow))
            said = (
                f"no answer for {STALL:g} seconds" if isinstance(error, TimeoutError) else " ".join(str(error).split())
            )
            reason = f"{type(error).__name__}: {said}" if isinstance(error, aiohttp.ClientError) or not said else said
        finally:
            arriving.unlink(missing_ok=True)
    raise CannotFetch(f"{url}: {attempts} attempts, the last one: {reason}")


def _download(url: str, target: Path, limit: int | None) -> None:
    scheme = url.partition("://")[0]
    options: dict[str, Any] = {}
    if scheme in ("http", "https"):
        # A limit on a whole transfer would hit slow networks; these are of a silence.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=STALL, sock_read=STALL)
        # Proxies of the environment, and passwords of ~/.netrc.
        options["client_kwargs"] = {"timeout": timeout, "trust_env": True}
    files, path = fsspec.core.url_to_fs(url, **options)
    files.get_file(path, str(target), callback=_Limits(limit))


class _Limits(Callback):
    """Ends a transfer that brings more bytes than it should, or next to none."""

    def __init__(self, limit: int | None) -> None:
        super().__init__()
        self.limit = limit
        self._since, self._then = time.monotonic(), 0

    def relative_update(self, inc: int = 1) -> None:
        super().relative_update(inc)
        if self.limit is not None and self.value > self.limit:
            raise ValueError(f"it sends more than the {self.limit:,} bytes that it should")
        passed = time.monotonic() - self._since
        if passed >= STALL:
            if self.value - self._then < SLOWEST * passed:
                raise TooSlow(f"it sent {self.value - self._then:,} bytes in {passed:.0f} seconds")
            self._since, self._then = time.monotonic(), self.value
