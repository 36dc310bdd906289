"""Where the paper's datasets are given out, on which terms, and which checksums are known.

Addresses, sizes and terms are those of the datasets' pages in the source of datasets.simula.no
(github.com/simula/datasets.simula.no, folder `datasets/`). That site publishes no checksums, so an archive's
digest is recorded when it is first fetched. The released split of Kvasir-SEG lies in a git
repository; its digests were computed from the files at the commit that the addresses name.
"""

from __future__ import annotations

from dataclasses import dataclass

from nanonet_edge.data.layouts import (
    ENDOTECT_2020,
    KVASIR_CAPSULE_SEG,
    KVASIR_INSTRUMENT,
    KVASIR_SEG,
    MEDICO_2020,
)
from nanonet_edge.errors import UnsupportedError, UsageError

_SITE = "https://datasets.simula.no"
_SPLIT = (
    "https://raw.githubusercontent.com/DebeshJha/2020-MediaEval-Medico-polyp-segmentation/"
    "d594c08b7f3a1cc40ef878284b5fc29de822bf18/kvasir-seg-train-val"
)
_RESEARCH_ONLY = (
    "The use of the {title} dataset is restricted for research and educational purposes. Its use for "
    "commercial purposes is forbidden without prior written permission. In all documents and "
    "publications that use it or report experimental results based on it, a reference to the "
    "dataset's paper has to be included."
)


@dataclass(frozen=True)
class Download:
    """One file to fetch; `sha256` is None where its publisher gives none."""

    url: str
    name: str
    sha256: str | None = None


@dataclass(frozen=True)
class Source:
    """Where a dataset comes from.

    Attributes:
        name: what `nanonet-edge data fetch` calls it.
        title: what its paper calls it.
        page: where it is described.
        terms: on which it may be used.
        citation: the paper to refer to.
        archive: the ZIP archive.
        extras: small files that go beside `images/`, unless the archive has them.
        about: what is fetched, where that is not the whole dataset; empty where it is.
    """

    name: str
    title: str
    page: str
    terms: str
    citation: str
    archive: Download
    extras: tuple[Download, ...] = ()
    about: str = ""


_SOURCES = (
    Source(
        KVASIR_SEG.name,
        KVASIR_SEG.title,
        f"{_SITE}/kvasir-seg/",
        _RESEARCH_ONLY.format(title=KVASIR_SEG.title),
        "Jha et al., Kvasir-SEG: A Segmented Polyp Dataset, MMM 2020",
        Download(f"{_SITE}/downloads/kvasir-seg.zip", "kvasir-seg.zip"),
        extras=(
            Download(
                f"{_SPLIT}/train.txt",
                "train.txt",
                "49992c7c6c80abf02032050d4ae754236da3ba1041f609659ad0043ff6d1795c",
            ),
            Download(
                f"{_SPLIT}/val.txt",
                "val.txt",
                "d9b48bd3d980324edb39df97764fdbb5489b2583f088fb49c659b76f6d20876b",
            ),
        ),
    ),
    Source(
        KVASIR_INSTRUMENT.name,
        KVASIR_INSTRUMENT.title,
        f"{_SITE}/kvasir-instrument/",
        _RESEARCH_ONLY.format(title=KVASIR_INSTRUMENT.title),
        "Jha et al., Kvasir-Instrument: Diagnostic and Therapeutic Tool Segmentation Dataset in "
        "Gastrointestinal Endoscopy, MMM 2021",
        Download(f"{_SITE}/downloads/kvasir-instrument.zip", "kvasir-instrument.zip"),
    ),
    Source(
        ENDOTECT_2020.name,
        ENDOTECT_2020.title,
        f"{_SITE}/hyper-kvasir/",
        "In all documents and papers that use or refer to the dataset or report experimental results "
        "based on HyperKvasir, a reference to the related article has to be added. Its page names no "
        "other terms; ask its authors before any use but research and education.",
        "Borgli et al., HyperKvasir, a comprehensive multi-class image and video dataset for "
        "gastrointestinal endoscopy, Scientific Data 7, 283 (2020)",
        Download(
            f"{_SITE}/downloads/hyper-kvasir/hyper-kvasir-segmented-images.zip",
            "hyper-kvasir-segmented-images.zip",
        ),
        about="the development part, HyperKvasir's segmented images; the challenge gave the test part "
        "to its participants",
    ),
    Source(
        KVASIR_CAPSULE_SEG.name,
        KVASIR_CAPSULE_SEG.title,
        f"{_SITE}/kvasir-capsule-seg/",
        _RESEARCH_ONLY.format(title=KVASIR_CAPSULE_SEG.title),
        "Jha et al., NanoNet: Real-Time Polyp Segmentation in Video Capsule Endoscopy and "
        "Colonoscopy, CBMS 2021",
        Download(f"{_SITE}/downloads/kvasir-capsule-seg.zip", "kvasir-capsule-seg.zip"),
    ),
)
_BY_NAME = {source.name: source for source in _SOURCES}


def find_source(name: str) -> Source:
    """Look a dataset up by its name, such as ``"kvasir-seg"``.

    Raises:
        UsageError: there is none of this name.
        UnsupportedError: it is given out in a way that only a person can follow.
    """
    if name == MEDICO_2020.name:
        raise UnsupportedError(
            f"{name}: its development set is {KVASIR_SEG.name}; its test images are in a shared folder "
            "that https://github.com/DebeshJha/2020-MediaEval-Medico-polyp-segmentation links to: "
            "fetch them by hand"
        )
    try:
        return _BY_NAME[name]
    except KeyError:
        raise UsageError(f"'{name}': expected one of {', '.join(_BY_NAME)}") from None
