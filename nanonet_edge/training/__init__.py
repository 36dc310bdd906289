"""Training a network: what `nanonet-edge train` does, as a library.

    recipe = PRESETS["fast"](epochs=60)
    split = split_samples(Path("kvasir-seg"))
    training, validation = load(split.training, 256), load(split.validation, 256)
    job = Job(get_variant("c"), recipe, start=Start(encoder=file))
    result = train(job, training, validation, "runs/c")

Everything is Keras 3 on whichever backend `KERAS_BACKEND` names.
"""

from __future__ import annotations

from nanonet_edge.training.data import TrainingSet, load
from nanonet_edge.training.recipe import PRESETS, Recipe, Stage, fast, paper, tune
from nanonet_edge.training.run import Job, Outcome, Start, TrainingResult, train
from nanonet_edge.training.split import Split, split_samples
from nanonet_edge.training.start import imagenet_encoder, place_encoder
from nanonet_edge.training.state import EpochRecord
from nanonet_edge.training.tensorboard import TensorBoardLog

__all__ = [
    "PRESETS",
    "EpochRecord",
    "Job",
    "Outcome",
    "Recipe",
    "Split",
    "Stage",
    "Start",
    "TensorBoardLog",
    "TrainingResult",
    "TrainingSet",
    "fast",
    "imagenet_encoder",
    "load",
    "paper",
    "place_encoder",
    "split_samples",
    "train",
    "tune",
]
