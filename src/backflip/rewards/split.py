"""Which feedback is never trained on."""

import hashlib
from collections.abc import Mapping, Sequence

from backflip.errors import TrainingError
from backflip.feedback.kinds import FeedbackBase
from backflip.records import Sample
from backflip.rewards.likelihood import is_choice


def split_by_prompt(
    entries: Sequence[FeedbackBase], samples: Mapping[str, Sample], share: float, seed: int
) -> tuple[list[FeedbackBase], list[FeedbackBase]]:
    """Part feedback into what is trained on and what is held out, by prompt.

    A prompt's side follows from its id and the seed alone, so it stays where it is as feedback
    comes in from round to round. Where a handful of prompts would leave a side empty, the one
    nearest to it changes over. An entry on samples of several prompts (clips from different
    starts) is held out when any of them is. Entries that chose nothing are on neither side.

    Args:
        entries: feedback of any kinds.
        samples: every sample they speak of, by id.
        share: expected share of prompts held out, between 0 and 1.
        seed: another seed holds out others.

    Returns:
        `(train, heldout)`, both in the order given.

    Raises:
        TrainingError: a sample is missing, or no split leaves something on both sides.
    """
    entries = [entry for entry in entries if is_choice(entry)]
    prompts = [_prompts_of(entry, samples) for entry in entries]
    places = {prompt: _place(prompt, seed) for group in prompts for prompt in group}
    # The place of an entry is its prompts' lowest: held out when below the share.
    lowest = [min(places[prompt] for prompt in group) for group in prompts]
    levels = sorted(set(lowest))
    if len(levels) < 2:
        raise TrainingError(
            f"feedback on {len(places)} prompts cannot be split into training and held-out parts",
            hint="Collect feedback on more prompts.",
        )
    limit = min(max(share, levels[1]), levels[-1])
    train = [e for e, low in zip(entries, lowest, strict=True) if low >= limit]
    heldout = [e for e, low in zip(entries, lowest, strict=True) if low < limit]
    return train, heldout


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
