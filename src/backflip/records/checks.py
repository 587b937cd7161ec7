"""Whether a prompt or a sample is whole: what the store keeps of them, and nothing else.

Each function raises a `ValueError` in words. Readers of files turn that into a `Rejected` row, and
the store into a `WorkspaceError`: it is the same door wherever somebody comes from.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from backflip.records.door import KEPT_DEPTH, check_integer, check_json, check_name, check_text
from backflip.records.samples import Clip, Completion, Prompt, Sample, Situation

_FINISHES = ("stop", "length", "human")
_ROUNDING = 1e-6
"""How far above 0 a log-softmax in 32-bit floats may end."""


def check_prompt(prompt: Prompt) -> None:
    """Refuse a prompt that cannot be stored, shown and written to files."""
    try:
        check_json(prompt.content.model_dump(mode="json"), depth=KEPT_DEPTH)
        check_text(prompt.source)
        if isinstance(prompt.content, Situation):
            _of("its seed", check_integer, prompt.content.seed)
    except ValueError as error:
        raise ValueError(f"the prompt: {error}") from None


def check_sample(sample: Sample) -> None:
    """Refuse a sample that is not whole, or is no answer to its prompt."""
    check_prompt(sample.prompt)
    check_content(sample.content)
    asked, content = sample.prompt.content, sample.content
    if isinstance(content, Completion) != (asked.type == "dialogue"):
        raise ValueError(f"a {content.type} is no answer to a {asked.type}")
    if isinstance(asked, Situation) and content.header()["environment"] != asked.environment:
        raise ValueError(f"the clip is not of the environment {asked.environment!r}")
    for name in ("weights_version", "seed", "index"):
        _of(f"its {name}", check_integer, getattr(sample, name))
    if sample.model is not None:
        _of("its model", check_name, sample.model)
    _of("its settings", check_json, sample.settings, depth=KEPT_DEPTH)


def check_content(content: Completion | Clip) -> None:
    """Refuse a completion or a clip whose parts do not fit each other."""
    check_header(content)
    if isinstance(content, Completion):
        _check_completion(content)
    else:
        _check_clip(content)
    check_json(content.header())


def check_header(content: Completion | Clip) -> None:
    """Refuse a content whose header is of other types than it says: it came from outside."""
    header = content.header()
    if content.type == "completion":
        if not isinstance(header["text"], str) or header["finish"] not in _FINISHES:
            raise ValueError("a completion's text or finish is not what it should be")
        return
    flags = (header["terminated"], header["truncated"])
    if not isinstance(header["environment"], str) or not all(isinstance(f, bool) for f in flags):
        raise ValueError("a clip's header is not what it should be")


def _check_completion(content: Completion) -> None:
    integers = (content.prompt_tokens, content.tokens)
    if any(a.dtype != np.int32 or a.ndim != 1 for a in integers):
        raise ValueError("a completion's tokens are not a row of 32-bit integers")
    if content.logprobs.dtype != np.float32 or content.logprobs.shape != content.tokens.shape:
        raise ValueError("a completion has not one 32-bit log-probability a token")
    for name, array in (("prompt_tokens", content.prompt_tokens), ("tokens", content.tokens)):
        _each(array >= 0, f"a completion's {name}", array, "which is no token")
    # What has no probability is never drawn, so there is no -inf either.
    drawn = np.isfinite(content.logprobs) & (content.logprobs <= _ROUNDING)
    told = "which is no log-probability of what was drawn"
    _each(drawn, "a completion's logprobs", content.logprobs, told)


def _check_clip(content: Clip) -> None:
    floats = (content.observations, content.logprobs, content.rewards)
    if any(a.dtype != np.float32 for a in floats):
        raise ValueError("a clip's observations, logprobs or rewards are not 32-bit floats")
    if any(a.ndim < 1 for a in (content.observations, content.actions)):
        raise ValueError("a clip's observations or actions are not one a step")
    if content.actions.dtype.kind not in "biuf":
        raise ValueError("a clip's actions are not numbers")
    if not (content.observations.size and content.actions.size):
        raise ValueError("a clip shows nothing: it has no step, or a step no number")
    steps = content.num_steps
    if len(content.observations) != steps + 1:
        raise ValueError(f"a clip of {steps} steps has {len(content.observations)} observations")
    one_each: tuple[NDArray[Any], ...] = (content.logprobs, content.rewards)
    if any(a.shape != (steps,) for a in one_each):
        raise ValueError("a clip has not one logprob and one reward a step")
    for name, array in content.arrays().items():  # log-densities may well be above 0
        _each(np.isfinite(array), f"a clip's {name}", array, "which is no finite number")


def _each(fits: NDArray[np.bool_], what: str, array: NDArray[Any], told: str) -> None:
    """Refuse an array in which a value does not fit; the first such is named."""
    if not fits.all():
        raise ValueError(f"{what} hold {array[~fits][0]}, {told}")


def _of(what: str, check: Any, value: Any, **how: Any) -> None:
    try:
        check(value, **how)
    except ValueError as error:
        raise ValueError(f"{what} {error}") from None
