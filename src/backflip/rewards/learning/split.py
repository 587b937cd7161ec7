"""Which feedback is never trained on."""

import hashlib
import math
from collections.abc import Collection, Iterable, Mapping, Sequence

from backflip.errors import TrainingError
from backflip.records import Sample
from backflip.records.feedback import FeedbackBase


def split_by_prompt(
    entries: Sequence[FeedbackBase],
    samples: Mapping[str, Sample],
    share: float,
    seed: int,
    picked: Collection[str] = (),
) -> tuple[list[FeedbackBase], list[FeedbackBase]]:
    """Part feedback into what is trained on and what is held out, by prompt.

    A prompt's side follows from its id and the seed alone, so it stays where it is as feedback
    comes in from round to round. Where a handful of prompts would leave a side empty, the one
    nearest to it changes over. An entry on samples of several prompts (clips from different
    starts) is held out when any of them is. Entries that chose nothing are on neither side.

    Entries on samples that a strategy picked to be asked about are no fair sample of what the
    policy does: they are trained on and never held out. On a prompt that is held out, such an
    entry is on neither side; see `heldout_side`, by which none need be asked for.

    Args:
        entries: feedback of any kinds.
        samples: every sample they speak of, by id.
        share: expected share of prompts held out, between 0 and 1.
        seed: another seed holds out others.
        picked: ids of samples that were picked for what may be learned from them.

    Returns:
        `(train, heldout)`, both in the order given.

    Raises:
        TrainingError: a sample is missing, or no split leaves something on both sides.
    """
    picked = frozenset(picked)
    entries = [entry for entry in entries if entry.is_choice]
    prompts = [_prompts_of(entry, samples) for entry in entries]
    places = {prompt: _place(prompt, seed) for group in prompts for prompt in group}
    # The place of an entry is its prompts' lowest: held out when below the share.
    lowest = [min(places[prompt] for prompt in group) for group in prompts]
    fair = [picked.isdisjoint(entry.sample_ids) for entry in entries]
    limit = _limit({low for low, by_lot in zip(lowest, fair, strict=True) if by_lot}, lowest, share)
    if limit is None:
        raise TrainingError(
            f"feedback on {len(places)} prompts cannot be split into training and held-out parts",
            hint="Collect feedback on more prompts.",
        )
    train = [e for e, low in zip(entries, lowest, strict=True) if low >= limit]
    heldout = [
        e for e, low, by_lot in zip(entries, lowest, fair, strict=True) if low < limit and by_lot
    ]
    return train, heldout


def heldout_side(prompts: Iterable[str], share: float, seed: int) -> set[str]:
    """Ids of these prompts whose feedback `split_by_prompt` would hold out; none of a single one.

    Args:
        prompts: ids.
        share: expected share of prompts held out, as in `split_by_prompt`.
        seed: likewise.
    """
    places = {prompt: _place(prompt, seed) for prompt in prompts}
    limit = _limit(set(places.values()), places.values(), share)
    return {prompt for prompt, place in places.items() if limit is not None and place < limit}


def _limit(held: Collection[float], places: Collection[float], share: float) -> float | None:
    """The place below which prompts are held out: the share, or what leaves neither side empty.

    `held` are the places that may be held out, among all. None where a side stays empty.
    """
    least = min(held, default=math.inf)
    above = [place for place in places if place > least]
    return min(max(share, min(above)), max(above)) if above else None


def places_by_prompt(
    entries: Sequence[FeedbackBase], samples: Mapping[str, Sample]
) -> list[list[int]]:
    """Places of the entries of each prompt, prompts in order of first mention.

    An entry on samples of several prompts stands with the first of them.
    """
    groups: dict[str, list[int]] = {}
    for place, entry in enumerate(entries):
        groups.setdefault(samples[entry.sample_ids[0]].prompt_id, []).append(place)
    return list(groups.values())


def _prompts_of(entry: FeedbackBase, samples: Mapping[str, Sample]) -> set[str]:
    try:
        return {samples[i].prompt_id for i in entry.sample_ids}
    except KeyError as error:
        raise TrainingError(f"sample {error.args[0]!r} is missing", where=entry.id) from None


def _place(prompt_id: str, seed: int) -> float:
    """A number in [0, 1), uniform over prompts."""
    digest = hashlib.blake2b(f"{seed}:{prompt_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
