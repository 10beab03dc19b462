"""A file at a URL, copied here: whole and looked at, or not at all. Attempts are repeated, and a server that falls silent counts as gone."""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import fsspec
from fsspec.callbacks import Callback

ATTEMPTS = 6
"""Of a fetch, with pauses of 1, 2, 4, 8 and 16 seconds between them."""

PAUSE = 1.0
"""Seconds before the second attempt; each further pause is twice as long."""

STALL = 30.0
"""Seconds without a byte after which an HTTP server counts as gone."""


DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Which another attempt does not mend."""


class CannotFetch(Exception):
    """One sentence: what, how often it was tried, and why it failed."""


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
    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1))
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
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        finally:
            arriving.unlink(missing_ok=True)
    raise CannotFetch(f"{url}: {ATTEMPTS} attempts, the last one: {reason}")


def _download(url: str, target: Path, limit: int | None) -> None:
    scheme = url.partition("://")[0]
    options: dict[str, Any] = {}
    if scheme in ("http", "https"):
        # Errors of a whole transfer would hit slow networks; these are of a silence.
        options["client_kwargs"] = {"timeout": aiohttp.ClientTimeout(total=None, sock_connect=STALL, sock_read=STALL)}
    files, path = fsspec.core.url_to_fs(url, **options)
    files.get_file(path, str(target), callback=_Limit(limit))


class _Limit(Callback):
    """Ends a transfer that brings more bytes than it should."""

    def __init__(self, limit: int | None) -> None:
        super().__init__()
        self.limit = limit

    def relative_update(self, inc: int = 1) -> None:
        super().relative_update(inc)
        if self.limit is not None and self.value > self.limit:
            raise ValueError(f"it sends more than the {self.limit:,} bytes that it should")
