"""A reward model on real human comparisons: held-out accuracy with its confidence interval.

    python benchmarks/human_comparisons.py FILE [KEY=VALUE ...] [--recipe RECIPE] [--limit N]

FILE holds comparisons in any format that `backflip feedback import` reads. The model is that of
the recipe (SmolLM2-135M unless told otherwise); comparisons of what is longer than
`reward.max_tokens` are left out and counted. Prints one JSON line, and its progress beside it on
stderr.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from backflip.evaluation import reward_report
from backflip.formats import Labelled, read
from backflip.loop import load_recipe, make_domain
from backflip.records import derive_seed
from backflip.rewards import AnnotatorModel, RewardFit, split_by_prompt
from backflip.training import RewardTrainer, fit
from backflip.workspace import Workspace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--limit", type=int, help="use only so many comparisons")
    options = parser.parse_args()
    recipe = load_recipe(options.recipe, ["reward.too_long=drop", *options.overrides])
    with tempfile.TemporaryDirectory() as folder, Workspace.create(Path(folder) / "w") as workspace:
        domain = make_domain(recipe, workspace)
        start = domain.start(Path(folder), seed=recipe.seed)
        domain.read_with(start)
        print(json.dumps(run(recipe, domain, start, Path(folder), options)), flush=True)


def run(recipe, domain, start: Path, folder: Path, options) -> dict:
    settings = recipe.reward
    rows = [row for row in read(options.file) if isinstance(row, Labelled)]
    scorer = domain.scorer(start, seed=recipe.seed)
    rows = rows[: options.limit]
    samples = {sample.id: sample for row in rows for sample in row.samples}
    long = domain.too_long(list(samples.values()))
    entries = [entry for row in rows for entry in row.entries]
    kept = [entry for entry in entries if long.isdisjoint(entry.sample_ids)]
    train, heldout = split_by_prompt(
        kept, samples, share=settings.heldout, seed=derive_seed(recipe.seed, "heldout")
    )
    fitted = RewardFit(
        scorer, AnnotatorModel.of(train, settings), train, samples, settings, recipe.seed
    )
    begun = time.perf_counter()

    def record(step: int, metrics: dict[str, float]) -> None:
        if step % 10 == 0:
            told = f"step {step}/{fitted.num_steps} nll {metrics['nll']:.3f}"
            print(told, file=sys.stderr, flush=True)

    fit(
        RewardTrainer(fitted, settings),
        folder / "checkpoints",
        checkpoint_every=10**9,
        record=record,
    )
    seconds = time.perf_counter() - begun
    scores = fitted.evaluate(heldout).scores
    report = reward_report(heldout, scores, samples, {})
    return {
        "benchmark": "human_comparisons",
        "file": Path(options.file).name,
        "model": recipe.reward.model.name,
        "trained_on": len(train),
        "heldout": len(heldout),
        "left_out": len(entries) - len(kept),
        "epochs": settings.epochs,
        "seconds": round(seconds, 1),
        "accuracy": report.accuracy.overall.model_dump(),
        "by_length": {name: part.model_dump() for name, part in report.accuracy.by_length.items()},
        "calibration_error": report.calibration.error,
    }


if __name__ == "__main__":
    main()
