"""Fetch one of the paper's datasets from its official page: `nanonet-edge data fetch`.

The archive is downloaded beside the destination, checked, unpacked into a temporary folder, opened as a
dataset, and only then moved into place. What was fetched from where, and its SHA-256, is
written to `source.json` in the dataset's folder. A later fetch into that folder must bring the
same bytes, where the publisher gives no checksum to hold them to.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

from pydantic import ValidationError

from nanonet_edge.atomic import replaced_folder, write_text
from nanonet_edge.data.download import TIMEOUT, download
from nanonet_edge.data.layouts import open_dataset
from nanonet_edge.data.sources import Download, Source
from nanonet_edge.data.unpack import unpack_zip
from nanonet_edge.errors import DatasetError, InputError, UsageError
from nanonet_edge.manifest import Record, Sha256

SOURCE_NAME: Final = "source.json"

#: What a file's digest is held against: its publisher's, the user's, an earlier fetch's, or nothing yet.
HeldAgainst = Literal["published", "given", "earlier fetch", "first use"]
Progress = Callable[[str, int, int], None]


class FetchedFile(Record):
    """One file as it arrived; `checked` says what its digest was held against."""

    url: str
    name: str
    bytes: int
    sha256: Sha256
    checked: HeldAgainst


class FetchRecord(Record):
    """`source.json`: where a dataset's folder came from."""

    schema_version: Literal[1] = 1
    kind: Literal["data-source"] = "data-source"
    dataset: str
    title: str
    page: str
    terms: str
    citation: str
    fetched: str
    files: tuple[FetchedFile, ...]
    images: int
    masks: int


def fetch_dataset(
    source: Source,
    folder: Path,
    *,
    url: str | None = None,
    sha256: str | None = None,
    overwrite: bool = False,
    timeout: float = TIMEOUT,
    progress: Progress | None = None,
) -> FetchRecord:
    """Download, check and unpack a dataset into `folder`, all of it or nothing.

    Args:
        source: of `nanonet_edge.data.sources.find_source`.
        folder: becomes the dataset's; what arrived of an unfinished download is kept beside it.
        url: fetch the archive from there instead, without the extra files.
        sha256: what the archive must have, in hex.
        overwrite: replace what is in `folder`.
        timeout: seconds of silence after which a connection counts as dropped.
        progress: called with the stage, and how much of it is done (total 0: unknown).

    Raises:
        UsageError: `folder` is not empty, or `sha256` is no SHA-256.
        InputError: the download fails, its digest differs, or the archive is refused.
        DatasetError: what was unpacked is no dataset of images and masks.
    """
    wanted = _expected(source, folder, url, sha256)
    if folder.exists() and not overwrite and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: expected an empty folder or none; add --overwrite to replace it")
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    paths = [folder.with_name(f".{folder.name}.{one.name}") for one, _, _ in wanted]
    try:
        with replaced_folder(folder) as staging:
            files = [
                _fetch(one, expected, held_against, path, timeout, progress)
                for (one, expected, held_against), path in zip(wanted, paths, strict=True)
            ]
            unpack_zip(paths[0], staging, progress=_stage(progress, "unpack"))
            for one, path in zip(wanted[1:], paths[1:], strict=True):
                if not (staging / one[0].name).exists():
                    path.replace(staging / one[0].name)
            record = _describe(source, staging, files)
            write_text(staging / SOURCE_NAME, json.dumps(record.model_dump(mode="json"), indent=1) + "\n")
    finally:  # what has not arrived whole bears another name, and stays
        for path in paths:
            path.unlink(missing_ok=True)
    return record


def read_source(folder: Path) -> FetchRecord | None:
    """The record of an earlier fetch into this folder, if there is a readable one."""
    try:
        return FetchRecord.model_validate_json((folder / SOURCE_NAME).read_bytes())
    except (OSError, ValidationError):
        return None


def _expected(
    source: Source, folder: Path, url: str | None, sha256: str | None
) -> list[tuple[Download, str | None, HeldAgainst]]:
    """What to download, with the digest that it must have and who says so."""
    if sha256 is not None and re.fullmatch(r"[0-9a-fA-F]{64}", sha256) is None:
        raise UsageError(f"'{sha256}': expected a SHA-256, 64 hexadecimal digits")
    archive = source.archive if url is None else replace(source.archive, url=url, sha256=None)
    wanted = (archive, *(source.extras if url is None else ()))
    earlier = read_source(folder)
    known = {} if earlier is None else {one.url: one.sha256 for one in earlier.files}
    found: list[tuple[Download, str | None, HeldAgainst]] = []
    for one in wanted:
        if sha256 is not None and one is archive:
            found.append((one, sha256.lower(), "given"))
        elif one.sha256 is not None:
            found.append((one, one.sha256, "published"))
        elif one.url in known:
            found.append((one, known[one.url], "earlier fetch"))
        else:
            found.append((one, None, "first use"))
    return found


def _fetch(
    one: Download,
    expected: str | None,
    held_against: HeldAgainst,
    path: Path,
    timeout: float,
    progress: Progress | None,
) -> FetchedFile:
    arrived = download(one.url, path, timeout=timeout, progress=_stage(progress, f"fetch {one.name}"))
    if expected is not None and arrived.sha256 != expected:
        hint = f" in {SOURCE_NAME} (--sha256 accepts another)" if held_against == "earlier fetch" else ""
        raise InputError(
            f"{one.url}: expected SHA-256 {expected} ({held_against}{hint}), "
            f"found {arrived.sha256} ({arrived.bytes} bytes)"
        )
    return FetchedFile(
        url=one.url, name=one.name, bytes=arrived.bytes, sha256=arrived.sha256, checked=held_against
    )


def _describe(source: Source, staging: Path, files: list[FetchedFile]) -> FetchRecord:
    """Open what was unpacked, and say what it is."""
    try:
        opened = open_dataset(staging)
    except DatasetError as error:
        reason = str(error).replace(str(staging), "its folder")
        raise DatasetError(f"{files[0].url}: what was unpacked is no dataset: {reason}") from None
    return FetchRecord(
        dataset=source.name,
        title=source.title,
        page=source.page,
        terms=source.terms,
        citation=source.citation,
        fetched=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        files=tuple(files),
        images=len(opened.samples),
        masks=sum(sample.mask is not None for sample in opened.samples),
    )


def _stage(progress: Progress | None, stage: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress(stage, done, total)
