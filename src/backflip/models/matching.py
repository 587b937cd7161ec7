"""Whether tensors are those of a network: all of them, and no others."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from backflip.errors import ModelError

_SHOWN = 3
_ONE_OF_SEVERAL = re.compile(r"(.*\bexperts\.|.*\bshard_)([0-9]+)\.(.+)")
"""Names of tensors that transformers stacks into one: what they are of, a number, which part."""
TOGETHER = "Is it whole, and do its settings and its weights belong together?"
OTHER_SETTINGS = "It was written with another model or other lora settings."


def counted(names: Collection[str]) -> str:
    """How many tensors, and the names of the first few."""
    first = sorted(names)[:_SHOWN]
    more = ", ..." if len(names) > len(first) else ""
    number = "1 tensor" if len(names) == 1 else f"{len(names)} tensors"
    return f"{number}: {', '.join(first)}{more}"


def require_same_tensors(
    own: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
    *,
    what: str,
    hint: str | None = OTHER_SETTINGS,
    where: str | None = None,
) -> None:
    """Require that what is given has the names, shapes and types of one's own.

    Args:
        own: what a network has.
        given: what is to take its place.
        what: names what is given in the message.
        hint: what to do about it.
        where: it lies.

    Raises:
        ModelError: they differ; it counts and names the tensors.
    """
    unlike = [
        name
        for name in own.keys() & given.keys()
        if own[name].shape != given[name].shape or own[name].dtype != given[name].dtype
    ]
    for wrong, names in (
        ("lacks", own.keys() - given.keys()),
        ("has what the network does not:", given.keys() - own.keys()),
        ("has other shapes or types for", unlike),
    ):
        if names:
            raise ModelError(f"{what} {wrong} {counted(names)}", where=where, hint=hint)


def require_filled(told: Mapping[str, Any], *, where: str) -> None:
    """Refuse weights that were drawn at random for want of a file's, or that were left in it.

    Args:
        told: what `from_pretrained` says with `output_loading_info`. What is tied and what the
            family declares needless is not in it.
        where: the files lie.

    Raises:
        ModelError: there are some; it counts and names the tensors.
    """
    for wrong, names in (
        ("lacks", told["missing_keys"]),
        ("has other shapes for", [name for name, *_ in told["mismatched_keys"]]),
        ("has what the network does not:", told["unexpected_keys"]),
    ):
        if names:
            raise ModelError(f"{wrong} {counted(names)}", where=where, hint=TOGETHER)


def require_joined(error: BaseException | None, *, where: str) -> None:
    """Name the tensors that transformers could not put together of several of a file, as experts.

    Its error does not; only what it has noted until then does, which its own frames hold.

    Args:
        error: of `from_pretrained`.
        where: the files lie.

    Raises:
        ModelError: that was the error; it counts and names the tensors, as the network has them.
    """
    trace = error.__traceback__ if error is not None else None
    while trace is not None:
        told = trace.tb_frame.f_locals.get("loading_info")
        if names := getattr(told, "conversion_errors", None):
            raise ModelError(
                f"lacks parts, or has others than fit together, of {counted(names)}",
                where=where,
                hint=TOGETHER,
            ) from error
        trace = trace.tb_next


def require_numbered(names: Iterable[str], *, where: str) -> None:
    """Require that what is stacked into one tensor, as experts are, is numbered from 0 on.

    transformers stacks what there is in the order of the numbers, whichever they are: with another
    number in its name, an expert would stand in the place of another.

    Args:
        names: of all tensors of the files, as they are spelt there.
        where: the files lie.

    Raises:
        ModelError: a number is missing in a part, or is one too many; it counts and names them.
    """
    stacks: dict[str, dict[str, str]] = {}
    for name in names:
        if found := _ONE_OF_SEVERAL.fullmatch(name):
            stacks.setdefault(found[1], {})[name] = found[3]
    lacking: list[str] = []
    strange: list[str] = []
    for stack, part_of in stacks.items():
        counts = Counter(part_of.values())
        most = max(counts.values())
        parts = {part: number for part, number in counts.items() if 2 * number >= most}
        number = sorted(parts.values())[len(parts) // 2]  # one renamed does not change the median
        wanted = {f"{stack}{each}.{part}" for each in range(number) for part in parts}
        lacking += wanted - part_of.keys()
        strange += part_of.keys() - wanted
    told = [
        f"{wrong} {counted(tensors)}"
        for wrong, tensors in (("lacks", lacking), ("has what the network does not:", strange))
        if tensors
    ]
    if told:
        raise ModelError("; ".join(told), where=where, hint=TOGETHER)


def require_finite(network: Any) -> None:
    """Require that no weight of a module is NaN or infinite.

    Raises:
        ModelError: some are; it counts and names the tensors.
    """
    broken = [
        name
        for name, parameter in network.named_parameters()
        if parameter.numel() and not all(map(torch.isfinite, torch.aminmax(parameter.detach())))
    ]
    if broken:
        raise ModelError(
            f"has weights that are no finite numbers in {counted(broken)}",
            hint="What was trained into it went wrong, or its files are damaged: take an earlier "
            "one, or load it anew from where it came from.",
        )
