"""What a recipe says, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanonet_edge.errors import UsageError
from nanonet_edge.training import PRESETS, Stage, fast, paper, tune
from tests.nanonet_edge.training.material import RECIPE


def test_the_papers_recipe_is_that_of_the_paper() -> None:
    recipe = PRESETS["paper"]()
    (stage,) = recipe.stages
    assert (stage.size, stage.epochs, recipe.batch, recipe.optimizer) == (256, 200, 16, "nadam")
    assert stage.rate == stage.final_rate == 1e-4
    assert (recipe.dice, recipe.cross_entropy, recipe.distillation) == (1.0, 0.0, 0.0)
    assert (recipe.plateau, recipe.patience, recipe.augmentation) == (10, 50, "paper")
    # Nothing that the paper does not have.
    assert (recipe.momentum, recipe.average, recipe.warm_up, recipe.weight_decay) == (None, 0.0, 0, 0.0)
    assert not recipe.adapt_input


@given(epochs=st.integers(3, 400), size=st.integers(1, 16).map(lambda n: 32 * n))
def test_the_fast_recipe_grows_to_the_size_in_the_epochs_asked_for(epochs: int, size: int) -> None:
    recipe = fast(size, epochs)
    sizes = [stage.size for stage in recipe.stages]
    assert recipe.epochs == epochs
    assert sizes == sorted(sizes)
    assert sizes[-1] == size
    assert recipe.reestimate > 0


@given(epochs=st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_every_epoch_is_in_one_stage_in_order(epochs: list[int]) -> None:
    recipe = replace(RECIPE, stages=tuple(Stage(32 * (i + 1), n, 1e-3, 1e-3) for i, n in enumerate(epochs)))
    found = [recipe.stage_of(epoch) for epoch in range(recipe.epochs)]
    assert found == [(stage, within) for stage in recipe.stages for within in range(stage.epochs)]
    with pytest.raises(IndexError, match=f"last of {recipe.epochs}"):
        recipe.stage_of(recipe.epochs)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stages": ()}, "at least one stage"),
        ({"batch": 1}, "batches of two or more"),
        ({"stages": (Stage(100, 1, 1e-3, 1e-3),)}, "multiple of 32"),
        ({"stages": (Stage(32, 0, 1e-3, 1e-3),)}, "at least one epoch"),
        ({"stages": (Stage(32, 1, 0.0, 0.0),)}, "positive learning rate"),
        ({"stages": (Stage(32, 1, 1e-3, 1e-3, validate_every=0),)}, "at least one epoch"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        replace(RECIPE, **changes)  # type: ignore[arg-type]


def test_three_stages_take_three_epochs() -> None:
    with pytest.raises(UsageError, match=r"'fast' has 3 stages.*found 2"):
        fast(epochs=2)


def test_a_recipe_is_json() -> None:
    for recipe in (paper(), fast(), tune()):
        stored = json.loads(json.dumps(recipe.as_dict()))
        assert (
            replace(recipe, **{**stored, "stages": tuple(Stage(**one) for one in stored["stages"])}) == recipe
        )
