"""The model card of shipped weights, drawn from their facts."""

from __future__ import annotations

import textwrap
from typing import Any

from nanonet_edge.metrics import ACCURACY_FIGURES
from nanonet_edge.variants import DEFAULT_SIZE, Topology
from nanonet_edge.weights.facts import CrossValidation, Facts

_DATASET = 'the released split of Kvasir-SEG (Jha et al., "Kvasir-SEG: A Segmented Polyp Dataset", MMM 2020)'


def render_card(facts: Facts) -> str:
    """The card as Markdown."""
    stem = f"nanonet-{facts.variant}.{facts.topology}"
    return f"""# NanoNet-{facts.variant.upper()}, `{facts.topology}` topology, {facts.size}x{facts.size}

**For research. Not a medical device: do not use it to make or to support a diagnosis.**

| | |
|---|---|
| file | `{stem}.weights.h5`, {facts.bytes:,} bytes, {facts.parameters:,} parameters |
| sha256 | {facts.sha256} |
| input | BGR, bilinear resize to {facts.size}x{facts.size}, divided by 255 |
| output | probability of polyp per pixel, threshold 0.5 |
| calibration | `{stem}.calibration.npz`: int8 weights, scales, ranges of 128 training images; no pixels |

## How it was obtained

    {facts.command}

{_filled(_training(facts))}

The dataset is free for research and education. No image of it is in this package. Loss, DSC and learning
rate over the epochs: `{stem}.png`.

## How good it is

On the {facts.images} validation images, mean with 95 % bootstrap interval, fp32, masks at network size.
The validation images selected the epoch and nothing else; the last epoch stands beside it.

    {_evaluation(facts)}

{_accuracy(facts)}
{_leaks(facts)}{_cross_validation(facts.cross_validation)}
Known limits: one dataset from one hospital group, still frames, cases selected to show a polyp. It will
mark folds, bubbles and instruments now and then, and it was never tried on capsule frames.
"""


def _evaluation(facts: Facts) -> str:
    command = f"nanonet-edge evaluate --bundled --variant {facts.variant} --data kvasir-seg/validation"
    if facts.topology is not Topology.RELEASED:
        command += f" --topology {facts.topology}"
    return command if facts.size == DEFAULT_SIZE else f"{command} --size {facts.size}"


def _training(facts: Facts) -> str:
    settings, recipe = facts.settings, facts.settings["recipe"]
    stages = ", then ".join(
        f"{stage['epochs']} epochs at {stage['size']} px (rate {stage['rate']:g} to {stage['final_rate']:g})"
        for stage in recipe["stages"]
    )
    parts = [
        f"Trained on the {settings['training']['images']} training images of {_DATASET}.",
        _start(settings["start"]),
        f"{stages}; batches of {recipe['batch']}, {recipe['optimizer']}.",
        f"Loss = {_loss(recipe)}; augmentation `{recipe['augmentation']}`.",
    ]
    if recipe["average"]:
        parts.append(f"The weights are a moving average with a decay of {recipe['average']} per step.")
    if recipe["reestimate"]:
        parts.append(f"Batch-norm statistics estimated anew over {recipe['reestimate']} batches at the end.")
    parts += facts.remarks
    parts.append(f"Seed {settings['seed']}, Keras {settings['keras']} on {settings['backend']}.")
    return " ".join(part for part in parts if part)


def _start(start: dict[str, Any]) -> str:
    said = []
    if not (start["encoder"] or start["weights"]):
        said.append("Started from random weights.")
    if start["encoder"]:
        said.append(
            f"Encoder: ImageNet weights as Keras distributes them (Apache-2.0), {_file(start['encoder'])}."
        )
    if start["weights"]:
        said.append(f"Started from {_file(start['weights'])}.")
    if start["teacher"]:
        said.append(f"Distilled from {_file(start['teacher'])}.")
    return " ".join(said)


def _file(entry: dict[str, str]) -> str:
    return f"`{entry['file']}` (sha256 {entry['sha256'][:12]}...)"


def _loss(recipe: dict[str, Any]) -> str:
    terms = {
        "dice": "dice",
        "cross_entropy": "cross-entropy",
        "distillation": "cross-entropy against the teacher",
    }
    return " + ".join(f"{recipe[key]:g} {name}" for key, name in terms.items() if recipe[key])


def _filled(text: str) -> str:
    return textwrap.fill(text, 105, break_long_words=False, break_on_hyphens=False)


def _accuracy(facts: Facts) -> str:
    def cell(accuracy: Any, field: str) -> str:
        estimate = getattr(accuracy, field)
        return f"{estimate.mean:.4f} [{estimate.low:.4f}, {estimate.high:.4f}]"

    marks = {which: " (shipped)" if which == facts.shipped else "" for which in ("best", "last")}
    best, last = f"best: epoch {facts.best.epoch}", f"last: epoch {facts.last.epoch}"
    lines = [f"| figure | {best}{marks['best']} | {last}{marks['last']} |", "|---|---|---|"]
    for name, field in ACCURACY_FIGURES.items():
        lines.append(f"| {name} | {cell(facts.best.accuracy, field)} | {cell(facts.last.accuracy, field)} |")
    return "\n".join(lines)


def _leaks(facts: Facts) -> str:
    if not facts.leaked:
        return ""
    shipped = facts.best if facts.shipped == "best" else facts.last
    text = (
        f"{len(facts.leaked)} of these images show what a training image shows ({', '.join(facts.leaked)}; "
        "`nanonet-edge data check kvasir-seg`): the released split is not clean."
    )
    if shipped.without_leaks is not None:
        dsc = shipped.without_leaks.dsc
        text += f" Without them, DSC {dsc.mean:.4f} [{dsc.low:.4f}, {dsc.high:.4f}]."
    return f"\n{_filled(text)}\n"


def _cross_validation(found: CrossValidation | None) -> str:
    if found is None:
        return ""
    import numpy as np

    best = np.array([fold.best_dsc for fold in found.folds])
    last = np.array([fold.last_dsc for fold in found.folds])
    parts = ", ".join(f"{value:.4f}" for value in last)
    text = (
        f"{len(found.folds)}-fold cross-validation on the training images, each part held out once: DSC "
        f"{last.mean():.4f} after the last epoch (standard deviation over the folds {last.std(ddof=1):.4f}; "
        f"{parts}), {best.mean():.4f} at each fold's best."
    )
    return f"\n{_filled(text)}\n\n    {found.command}\n"
