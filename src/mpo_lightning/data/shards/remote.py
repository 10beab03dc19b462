"""Shards at a URL (http, https, s3, gs and whatever else fsspec opens), read through a bounded cache on this machine.

The index is fetched when a run starts. Each tar is fetched whole before it is first needed, earlier if there is room,
and compared with the index's sha256 before it is read. The processes of a machine share the cache: one fetches, the
others wait. When the cache is full, the least recently used tars are dropped first.
"""

import hashlib
import io
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from mpo_lightning.data.shards.index import ShardIndex, open_index
from mpo_lightning.data.shards.index_summary import ShardEntry, read_summary
from mpo_lightning.errors import BadRecord, InputError
from mpo_lightning.files.cache_root import cache_root
from mpo_lightning.files.fetch import CannotFetch, fetch
from mpo_lightning.files.named_arrays import open_array
from mpo_lightning.files.strict_json import MOST_BYTES

RECENT = 30.0
"""Seconds for which the failure of one process's fetch counts for all processes of the same run on this machine."""


class LostShard(BadRecord):
    """Raised for a shard that cannot be fetched. The run then stops, even in quarantine mode."""


def is_remote(folder: str) -> bool:
    return "://" in folder


def refuse_secrets(url: str) -> None:
    """Raises InputError for a URL that contains a password or a signature, without showing it.

    Logs, config.yaml and model cards would show it.
    """
    try:
        parts = urlsplit(url.rpartition("::")[2])
    except ValueError as error:
        raise InputError(f"{url.partition('://')[0]}://...: not a URL ({error})") from None
    web = parts.scheme in ("http", "https")
    if parts.password or (web and (parts.username or parts.query or parts.fragment)):
        raise InputError(
            f"{parts.scheme}://...: a URL of shards may contain no password (before @) or signature (after ? or #), as "
            "config.yaml, logs and model cards would show it; put the password into ~/.netrc, or use s3:// or another "
            "protocol of fsspec, with credentials in its own settings"
        )


def open_remote(url: str, cache_bytes: int) -> ShardIndex:
    """Opens the index of a folder of shards at a URL; tars are fetched when they are needed.

    Args:
        url: URL of the folder, as fsspec writes it.
        cache_bytes: most bytes of its tars that are kept on this machine.

    Raises:
        InputError: the URL holds a secret, no index is there, it cannot be fetched, or a tar is larger than the cache.
    """
    refuse_secrets(url)
    url = url.rstrip("/")
    folder = cache_root() / "shards" / hashlib.sha256(url.encode()).hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder / 'index'}.lock"):
            version = _fetch_index(url, folder, cache_bytes)
        index = open_copy(url, folder, version, cache_bytes)
    except CannotFetch as error:
        raise InputError(f"{url}: the shards' index cannot be fetched ({error})") from None
    except OSError as error:
        raise InputError(
            f"{folder}: the cache cannot be written ({error.strerror}); set MPO_LIGHTNING_CACHE to a folder with room"
        ) from None
    largest = max((shard.bytes for shard in index.shards), default=0)
    if largest > cache_bytes:
        raise InputError(
            f"{url}: a shard has {largest:,} bytes and the cache holds {cache_bytes:,}; raise data.cache_gib to at "
            f"least {ceil(largest / 2**30 * 1e6) / 1e6}"
        )
    return index


def open_copy(url: str, folder: Path, version: str, cache_bytes: int) -> ShardIndex:
    """Opens the index as it was fetched, whatever is at the URL now."""
    index = open_index(folder / version, tars=False, url=url)
    source = RemoteSource(url, folder, version, cache_bytes, shards=index.shards)
    return ShardIndex(
        folder / version,
        index.shards,
        datasets=index.datasets,
        records=index.records,
        members=index.members,
        source=source,
    )


def _fetch_index(url: str, folder: Path, cache_bytes: int) -> str:
    """Fetches index.json, and the arrays it names if they are not here. Returns the name of this version of them."""
    new = folder / "index.json"
    fetch(f"{url}/index/index.json", new, _believable, limit=MOST_BYTES)
    version = hashlib.sha256(new.read_bytes()).hexdigest()[:16]
    target = folder / version / "index"
    target.mkdir(parents=True, exist_ok=True)
    summary = read_summary(new)
    for kind, name in summary["arrays"].items():
        try:
            open_array(target / name, kind)
        except (OSError, ValueError):
            # 64 kB per record is far more than any record has.
            limit = min(2**20 + summary["records"] * 2**16, max(2**20, cache_bytes))
            fetch(f"{url}/index/{name}", target / name, partial(open_array, kind=kind, name=name), limit)
    new.replace(target / "index.json")
    return version


def _believable(path: Path) -> None:
    """Raises ValueError for an index.json that names more records than its tars have room for."""
    summary = read_summary(path)
    most = sum(shard["bytes"] for shard in summary["shards"]) // LEAST_RECORD_BYTES
    if summary["records"] > most:
        raise ValueError(f"it names {summary['records']:,} records, and its shards have room for {most:,}")


LEAST_RECORD_BYTES = 24
"""Smallest pair in a sample's text, {"chosen":0,"rejected":1}."""


class RemoteSource:
    """Fetches the tars of a remote index. It may be copied to other processes.

    Args:
        url: URL of the folder.
        folder: folder of the cache.
        version: version of the index.
        cache_bytes: most bytes of tars in the cache.
        shards: shards of the index.
    """

    def __init__(self, url: str, folder: Path, version: str, cache_bytes: int, shards: Sequence[ShardEntry]) -> None:
        self.url, self.folder, self.version, self.cache_bytes, self.shards = url, folder, version, cache_bytes, shards
        self._wanted: tuple[int, ...] = ()
        self._used: set[str] = set()
        self._thread: threading.Thread | None = None
        self._opened = time.time()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_thread": None, "_wanted": ()}

    def reopen(self) -> tuple[Callable[..., ShardIndex], tuple[Any, ...]]:
        return open_copy, (self.url, self.folder, self.version, self.cache_bytes)

    def where(self, shard: int) -> str:
        return f"{self.url}/{self.shards[shard].name}"

    def open(self, shard: int) -> io.FileIO:
        """Opens the tar, fetched if it is not here. It stays readable after another process has dropped it.

        Raises:
            LostShard: it cannot be fetched.
        """
        path = self._path(shard)
        self._used.add(path.name)
        try:
            # The lock keeps others from dropping it between fetching and opening.
            with FileLock(f"{path}.lock"):
                if not self._here(shard):
                    if (failure := self._recent_failure(shard)) is not None:
                        raise CannotFetch(failure)
                    self._fetch(shard, needed=True)
                os.utime(path)
                return io.FileIO(path)
        except CannotFetch as error:
            raise LostShard(
                f"its shard cannot be fetched ({error}); resume with --ckpt_path auto when it can"
            ) from None
        except OSError as error:
            raise LostShard(
                f"its shard cannot be kept in {self.folder} ({error.strerror or error}); free some space there"
            ) from None

    def forget(self, shard: int) -> bool:
        """Drops the copy, so that the next `open` fetches it again."""
        self._path(shard).unlink(missing_ok=True)
        return True

    def ahead(self, shards: Sequence[int]) -> None:
        """Fetches shards in the background, in this order, as far as they fit beside those in use."""
        if tuple(shards) == self._wanted:
            return
        self._wanted = tuple(shards)
        self._used = {self._path(shard).name for shard in shards}
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._fetch_wanted, name="mpo-fetch", daemon=True)
            self._thread.start()

    def _fetch_wanted(self) -> None:
        done: set[int] = set()
        while waiting := [shard for shard in self._wanted if shard not in done]:
            done.add(waiting[0])
            if self._here(waiting[0]) or self._recent_failure(waiting[0]) is not None:
                continue
            # A failure here is met again, and reported, when the shard is needed.
            with suppress(OSError, CannotFetch, Timeout), FileLock(f"{self._path(waiting[0])}.lock", timeout=0):
                if not self._here(waiting[0]) and not self._fetch(waiting[0], needed=False):
                    return

    def _path(self, shard: int) -> Path:
        """The path of a shard's copy. Its content is part of the name, so that shards made again are fetched again."""
        entry = self.shards[shard]
        return self.folder / f"{entry.sha256[:16]}-{entry.name}"

    def _here(self, shard: int) -> bool:
        try:
            return self._path(shard).stat().st_size == self.shards[shard].bytes
        except FileNotFoundError:
            return False

    def _fetch(self, shard: int, needed: bool) -> bool:
        entry, path = self.shards[shard], self._path(shard)
        room = self.folder / f"{path.name}.room"
        while not self._make_room(room, entry.bytes, needed):
            if not needed:
                return False
            time.sleep(0.05)  # until the tars that others fetch are here and can be dropped

        def check(fetched: Path) -> None:
            if fetched.stat().st_size != entry.bytes:
                raise ValueError(f"it has {fetched.stat().st_size:,} bytes where the index says {entry.bytes:,}")
            with fetched.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != entry.sha256:
                    raise ValueError("its bytes differ from the index's sha256")

        note = self._note(shard)
        try:
            fetch(f"{self.url}/{entry.name}", path, check, limit=entry.bytes)
            note.unlink(missing_ok=True)
        except CannotFetch as error:
            note.write_text(str(error), encoding="utf-8")
            raise
        finally:
            room.unlink(missing_ok=True)
        return True

    def _note(self, shard: int) -> Path:
        return self.folder / f"{self._path(shard).name}.lost"

    def _recent_failure(self, shard: int) -> str | None:
        """Why a process of this run just failed to fetch a shard, so that the others need not wait as long again."""
        with suppress(OSError):
            written = self._note(shard).stat().st_mtime
            if written > max(self._opened, time.time() - RECENT):
                return self._note(shard).read_text(encoding="utf-8")
        return None

    def _make_room(self, room: Path, size: int, needed: bool) -> bool:
        """Reserves room for a tar with an empty file of its size; False if there is no room.

        The least recently used tars are dropped for it; those in use only if the tar is needed now.
        """
        with FileLock(f"{self.folder / 'room'}.lock"):
            for other in self.folder.glob("*.room"):
                # Left by a process that was killed.
                with suppress(Timeout), FileLock(f"{other.with_suffix('')}.lock", timeout=0):
                    other.unlink(missing_ok=True)
            files, reserved = _there(self.folder, "*.tar"), _there(self.folder, "*.room")
            over = sum(stat.st_size for stat in (*files.values(), *reserved.values())) + size - self.cache_bytes
            for path in sorted(files, key=lambda path: (path.name in self._used, files[path].st_mtime)):
                if over <= 0 or (path.name in self._used and not needed):
                    break
                # A process that has it open can still read it; one that is about to open it holds its lock.
                with suppress(Timeout), FileLock(f"{path}.lock", timeout=0):
                    path.unlink(missing_ok=True)
                    over -= files[path].st_size
            if over > 0:
                return False
            with room.open("wb") as file:
                file.truncate(size)
            return True


def _there(folder: Path, pattern: str) -> dict[Path, os.stat_result]:
    """The files of a folder while other processes may remove some."""
    found = {}
    for path in folder.glob(pattern):
        with suppress(FileNotFoundError):
            found[path] = path.stat()
    return found
