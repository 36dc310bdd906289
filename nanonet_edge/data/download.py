"""Fetch a file over HTTP that may be cut off at any moment, and go on where it was.

What has arrived lies in ``<destination>.part``, and in ``<destination>.part.json`` where it comes
from. A later call asks the server for the rest (`Range`), on condition that the file is
still the same (`If-Range`); a server that cannot do so sends it all again.
"""

from __future__ import annotations

import errno
import http.client
import json
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from nanonet_edge.atomic import write_text
from nanonet_edge.errors import InputError, UsageError
from nanonet_edge.manifest import sha256_file

#: Silence of the server, in seconds, that counts as a dropped connection.
TIMEOUT = 30.0
#: Attempts that may fail in a row without a byte arriving.
ATTEMPTS = 5
MAX_BYTES = 4 << 30
_CHUNK = 1 << 18
_FIRST_PAUSE = 0.5
#: Answers that another attempt may change.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Downloaded:
    """A file that has arrived whole: its size, its SHA-256 in hex, and how much an earlier run had."""

    path: Path
    bytes: int
    sha256: str
    resumed_from: int


@dataclass(frozen=True)
class _Head:
    """What an answer says of the body that follows."""

    start: int
    total: int | None
    validator: str | None


class _DroppedError(Exception):
    """The connection ended before the file did."""


def download(
    url: str,
    destination: Path,
    *,
    timeout: float = TIMEOUT,
    attempts: int = ATTEMPTS,
    max_bytes: int = MAX_BYTES,
    progress: Progress | None = None,
) -> Downloaded:
    """Fetch `url` into the file `destination`, going on with what an earlier call left.

    Args:
        url: http or https; redirections never leave https for http.
        destination: replaced once the file is whole; its folder must exist.
        timeout: seconds without a byte after which a connection counts as dropped.
        attempts: how many times in a row nothing may arrive.
        max_bytes: larger files are refused.
        progress: called with the bytes that have arrived, and all of them (0: unknown).

    Raises:
        UsageError: `url` is not http or https.
        InputError: the server refuses or cannot be reached, or the file is too large for
            `max_bytes` or for the disk; what has arrived is kept.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise UsageError(f"{url}: expected an address that begins with https:// or http://")
    transfer = _Transfer(url, destination, timeout, max_bytes, progress)
    had, failures = transfer.have, 0
    while True:
        before = transfer.have
        try:
            transfer.attempt()
            break
        except (_DroppedError, OSError, http.client.HTTPException) as error:
            _raise_if_final(error, transfer)
            failures = 1 if transfer.have > before else failures + 1
            if failures >= attempts:
                raise InputError(f"{url}: {_describe(error)}; {transfer.kept}: run again to go on") from None
            time.sleep(min(_FIRST_PAUSE * 2 ** (failures - 1), 8.0))
    transfer.part.replace(destination)
    forget(destination)
    return Downloaded(destination, destination.stat().st_size, sha256_file(destination), had)


def forget(destination: Path) -> None:
    """Remove what an unfinished `download` to this destination left."""
    for suffix in (".part", ".part.json"):
        destination.with_name(destination.name + suffix).unlink(missing_ok=True)


class _Transfer:
    """One download: what has arrived, and how the rest is asked for."""

    def __init__(
        self, url: str, destination: Path, timeout: float, max_bytes: int, progress: Progress | None
    ) -> None:
        self.url = url
        self.destination = destination
        self.part = destination.with_name(f"{destination.name}.part")
        self.about = destination.with_name(f"{destination.name}.part.json")
        self.timeout = timeout
        self.max_bytes = max_bytes
        self.progress = progress

    @property
    def have(self) -> int:
        """Bytes that can be gone on from."""
        return self.part.stat().st_size if self.part.exists() and self.validator else 0

    @property
    def validator(self) -> str | None:
        """What the server called the version of the file whose beginning is there."""
        try:
            record: Any = json.loads(self.about.read_text(encoding="utf-8"))
            return str(record["validator"]) if record["url"] == self.url and record["validator"] else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @property
    def kept(self) -> str:
        """Where what has arrived lies, in words."""
        return f"{self.part.stat().st_size if self.part.exists() else 0} bytes are kept in {self.part}"

    def attempt(self) -> None:
        """Ask once, and write what comes; returns when the file is whole."""
        have = self.have
        headers = {"User-Agent": "nanonet-edge", "Accept-Encoding": "identity"}
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": str(self.validator)}
        request = urllib.request.Request(self.url, headers=headers)  # noqa: S310 - the scheme was checked
        try:
            answer = urllib.request.build_opener(_SafeRedirects).open(request, timeout=self.timeout)
        except urllib.error.HTTPError as error:
            with error:
                if error.code != 416:
                    raise
                if error.headers.get("Content-Range") == f"bytes */{have}":
                    return  # all of it had arrived
                forget(self.destination)
                raise _DroppedError("the server has a shorter file than before") from None
        with answer:
            head = _head(answer.status, answer.headers, have)
            self._check_room(head)
            if not head.start:  # what is there belongs to another version, or begins again
                self.part.unlink(missing_ok=True)
            write_text(self.about, json.dumps({"url": self.url, "validator": head.validator}))
            self._receive(answer, head)

    def _check_room(self, head: _Head) -> None:
        if head.total is None:
            return
        if head.total > self.max_bytes:
            raise InputError(
                f"{self.url}: expected at most {self.max_bytes} bytes, found a file of {head.total}"
            )
        free, needed = shutil.disk_usage(self.part.parent).free, head.total - head.start
        if needed > free:
            raise InputError(
                f"{self.part.parent}: expected room for the {needed} bytes of {self.url}, found {free} free"
            )

    def _receive(self, answer: IO[bytes], head: _Head) -> None:
        arrived, most = head.start, self.max_bytes if head.total is None else head.total
        with self.part.open("r+b" if head.start else "wb") as file:
            file.seek(head.start)
            while chunk := answer.read(_CHUNK):
                arrived += len(chunk)
                if arrived > most:
                    raise InputError(f"{self.url}: expected at most {most} bytes, found more")
                file.write(chunk)
                if self.progress is not None:
                    self.progress(arrived, head.total or 0)
            file.flush()
            os.fsync(file.fileno())
        if head.total is not None and arrived < head.total:
            raise _DroppedError(f"the connection ended after {arrived} of {head.total} bytes")


def _head(status: int, headers: Mapping[str, str], have: int) -> _Head:
    validator = headers.get("ETag")
    if validator is None or validator.startswith("W/"):  # a weak one vouches for no byte
        validator = headers.get("Last-Modified")
    length = headers.get("Content-Length")
    if status == 206:
        match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", headers.get("Content-Range", ""))
        if match is None or int(match[1]) != have:
            raise _DroppedError(f"asked for bytes from {have}, was sent '{headers.get('Content-Range')}'")
        return _Head(have, None if match[3] == "*" else int(match[3]), validator)
    return _Head(0, int(length) if length is not None and length.isdigit() else None, validator)


def _raise_if_final(error: Exception, transfer: _Transfer) -> None:
    """Raise what another attempt cannot mend."""
    if isinstance(error, urllib.error.HTTPError):
        if error.code not in _PASSING:
            raise InputError(f"{transfer.url}: the server answers {error.code} {error.reason}") from None
    elif isinstance(error, urllib.error.URLError):
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise InputError(f"{transfer.url}: {_describe(error)}") from None
    elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        raise InputError(
            f"{transfer.part.parent}: no room left for {transfer.url} ({error.strerror}); {transfer.kept}"
        ) from None
    elif isinstance(error, PermissionError | FileNotFoundError | IsADirectoryError):
        raise error


def _describe(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return f"cannot be reached: {error.reason}"
    if isinstance(error, TimeoutError):
        return "the server fell silent"
    return str(error) or type(error).__name__


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follow redirections to http and https, but never out of https."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new not in ("http", "https") or (old == "https" and new == "http"):
            raise InputError(f"{req.full_url}: refusing to be sent on to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
