"""Lets an agent act in Gymnasium environments; what it does comes back as clips.

Many clips are played side by side, and the policy is asked once a step for all of them. A clip is
the same in any company, bit for bit: its seeds come of its prompt and its number, its draws are its
own, and nothing that is computed for a row depends on how many rows there are or on what is in
them. For that the policy is always asked for equally many rows, of which some may stand empty, and
each row has a product of its own with the weights (see `backflip.sampling.rounding` for what a
shared one does).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributions import Categorical

from backflip.agents.networks import AgentPolicy
from backflip.config import SamplingSettings
from backflip.environments import make_env
from backflip.errors import ModelError, SettingsError
from backflip.records import Clip, Prompt, Sample, Situation, derive_seed
from backflip.sampling import Advance
from backflip.sampling.rounding import swapped

# Rows that the policy is asked for at once. So many rows of float32 fill whole vector registers,
# however wide a layer is, and are too few to be divided among threads.
_ROWS = 64


class AgentSampler:
    """Acts from situations; `settings.max_tokens` is the most steps of a clip."""

    def __init__(self, policy: AgentPolicy, *, model_id: str | None = None):
        self.policy = policy
        self.model_id = model_id
        self.version = 0

    def sample(
        self,
        prompts: Sequence[Prompt],
        settings: SamplingSettings,
        *,
        num_samples: int = 1,
        seed: int,
        advance: Advance | None = None,
    ) -> list[Sample]:
        """K clips of each situation, up to `settings.batch_size` side by side.

        See `Sampler.sample`. An environment is used for one clip after the other: as Gymnasium
        has it, resetting one with a seed makes it forget what was done in it before.

        Raises:
            SettingsError: a prompt is no situation, an environment cannot be made or takes other
                actions than numbers, or the temperature is not 1.
            ModelError: what the policy computes is not finite.
        """
        takes = [
            _Take(prompt, _situation_of(prompt), index, derive_seed(seed, prompt.id, index))
            for prompt in prompts
            for index in range(num_samples)
        ]
        by_world: dict[str, list[_Take]] = {}
        for take in takes:
            by_world.setdefault(take.start.environment, []).append(take)
        with torch.inference_mode(), _row_by_row(self.policy):
            for environment, own in by_world.items():
                self._play(environment, own, settings, advance)
        return [
            Sample.of(
                take.prompt,
                take.clip(),
                model=self.model_id,
                weights_version=self.version,
                seed=seed,
                index=take.index,
                settings=settings.model_dump(mode="json", exclude={"batch_size"}),
            )
            for take in takes
        ]

    def load(self, weights: Mapping[str, Tensor], *, version: int) -> None:
        """Act with these weights from now on."""
        self.policy.load_state_dict(dict(weights))
        self.version = version

    def _play(
        self,
        environment: str,
        takes: Sequence["_Take"],
        settings: SamplingSettings,
        advance: Advance | None,
    ) -> None:
        """Play these to their end; a place that has become free takes the next one."""
        waiting = iter(takes)
        with closing(_worlds(environment, min(settings.batch_size, len(takes)))) as worlds:
            places: list[_Take | None] = [*islice(waiting, worlds.num_envs)]
            over = np.ones(worlds.num_envs, np.bool_)
            seen = _begun(worlds, places, over)
            while any(places):
                actions, logprobs = self._choose(seen, places, settings.temperature)
                done = _done_by(worlds.single_action_space, actions)
                seen, rewards, terminated, truncated, _ = worlds.step(done)
                over = terminated | truncated
                for i, take in enumerate(places):
                    if take is None:
                        continue
                    take.step(actions[i], logprobs[i], rewards[i], seen[i])
                    if over[i] or take.num_steps == settings.max_tokens:
                        take.terminated = bool(terminated[i])
                        places[i], over[i] = next(waiting, None), True
                        if advance is not None:
                            advance(1)
                if over.any() and any(places):
                    seen = _begun(worlds, places, over)

    def _choose(
        self, seen: NDArray[Any], places: Sequence["_Take | None"], temperature: float
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """What is done at each of N places after what is seen there, (N, ...), empty ones too.

        Returns:
            (N,) int64 or (N, A) float32 actions, and their (N,) log-probabilities in nats.
        """
        rows_NO = torch.from_numpy(np.float32(seen)).reshape(len(places), -1)
        padding = -len(places) % _ROWS
        rows_NO = nn.functional.pad(rows_NO, (0, 0, 0, padding))
        own = [None if take is None else take.generator for take in places] + [None] * padding
        actions, logprobs = [], []
        for first in range(0, len(own), _ROWS):
            part = slice(first, first + _ROWS)
            chosen = self.policy.distribution(rows_NO[part], temperature=temperature)
            if isinstance(chosen, Categorical):
                action = _drawn(chosen.probs, own[part])
            else:
                action = chosen.mean + chosen.stddev * _noise(chosen.mean, own[part])
            actions.append(action)
            logprobs.append(chosen.log_prob(action))
        if not bool(torch.cat(logprobs).isfinite().all()):
            raise ModelError(
                "what the policy computes is not finite",
                hint="Its weights, or what the environment shows, hold NaN or infinity.",
            )
        number = len(places)
        return torch.cat(actions)[:number].numpy(), torch.cat(logprobs)[:number].numpy()


@dataclass
class _Take:
    """A clip on its way: who asked for it, its own draws, and what happened so far."""

    prompt: Prompt
    start: Situation
    index: int
    seed: int
    seen: list[NDArray[Any]] = field(default_factory=list)
    done: list[NDArray[Any]] = field(default_factory=list)
    logprobs: list[np.float32] = field(default_factory=list)
    rewards: list[np.float64] = field(default_factory=list)
    terminated: bool = False

    def __post_init__(self) -> None:
        self.generator = np.random.default_rng(self.seed)

    @property
    def num_steps(self) -> int:
        return len(self.done)

    def step(
        self, action: NDArray[Any], logprob: np.float32, reward: np.float64, seen: NDArray[Any]
    ) -> None:
        self.done.append(action)
        self.logprobs.append(logprob)
        self.rewards.append(reward)
        self.seen.append(seen)

    def clip(self) -> Clip:
        return Clip(
            environment=self.start.environment,
            observations=np.asarray(self.seen, np.float32),
            actions=np.asarray(self.done),
            logprobs=np.asarray(self.logprobs, np.float32),
            rewards=np.asarray(self.rewards, np.float32),
            terminated=self.terminated,
            truncated=not self.terminated,
        )


def _situation_of(prompt: Prompt) -> Situation:
    """Where a prompt sets an agent; a `SettingsError` for a dialogue, which sets it nowhere."""
    start = prompt.content
    if not isinstance(start, Situation):
        raise SettingsError(f"an agent cannot act in a {start.type}", where=prompt.place)
    return start


class _Bare(gym.Wrapper[Any, Any, Any, Any]):
    """An environment that says nothing beside: what it says need not fit into one array."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return self.env.reset(seed=seed)[0], {}

    def step(self, action: Any) -> Any:
        return *self.env.step(action)[:4], {}


def _worlds(environment: str, number: int) -> SyncVectorEnv:
    """So many environments side by side, of which none begins anew before it is told to."""
    return SyncVectorEnv(
        [lambda: _Bare(make_env(environment))] * number, autoreset_mode=AutoresetMode.DISABLED
    )


def _begun(
    worlds: SyncVectorEnv, places: Sequence[_Take | None], fresh: NDArray[np.bool_]
) -> NDArray[Any]:
    """What is seen, (N, ...), once the places marked in `fresh` (N,) have begun.

    An empty place begins too, and goes on being played for nothing: no environment may be acted in
    after its end.
    """
    seeds = [None if take is None else take.start.seed for take in places]
    seen, _ = worlds.reset(seed=seeds, options={"reset_mask": fresh})
    for i, take in enumerate(places):
        if take is not None and fresh[i]:
            take.seen.append(seen[i])
    return seen


def _drawn(chances_NA: Tensor, own: Sequence[np.random.Generator | None]) -> Tensor:
    """(N,) actions, each drawn by its row's chances; any where no generator stands."""
    drawn_N = np.array([0.0 if draw is None else draw.random() for draw in own])
    heights_NA = chances_NA.numpy().astype(np.float64).cumsum(1)
    passed_NA = heights_NA[:, :-1] <= drawn_N[:, None] * heights_NA[:, -1:]
    return torch.from_numpy(passed_NA.sum(1))


def _noise(like_NA: Tensor, own: Sequence[np.random.Generator | None]) -> Tensor:
    """(N, A) standard normal numbers; 0 where no generator stands."""
    noise_NA = torch.zeros_like(like_NA)
    for row_A, draw in zip(noise_NA, own, strict=True):
        if draw is not None:
            row_A.copy_(torch.from_numpy(draw.standard_normal(len(row_A), np.float32)))
    return noise_NA


@contextmanager
def _row_by_row(policy: AgentPolicy) -> Iterator[None]:
    """Inside the block every row has products of its own with the policy's weights."""
    layers = [module for module in policy.modules() if isinstance(module, nn.Linear)]
    with swapped({layer: partial(_products, layer) for layer in layers}):
        yield


def _products(layer: nn.Linear, rows_NI: Tensor) -> Tensor:
    """(N, O) what the layer makes of rows, as N products of a shape that is the same for all N."""
    number = len(rows_NI)
    weights_NIO = layer.weight.T.expand(number, -1, -1)
    return torch.baddbmm(layer.bias.expand(number, 1, -1), rows_NI[:, None], weights_NIO)[:, 0]


def _done_by(space: gym.Space[Any], actions: NDArray[Any]) -> NDArray[Any]:
    """What N environments are given for actions, (N,) or (N, A): numbers within their space.

    A Gaussian policy may want more than the space allows. The clip keeps what the policy chose, so
    that its log-probability is that of the action it stands beside.
    """
    if isinstance(space, gym.spaces.Discrete):
        return (space.start + actions).astype(space.dtype)
    if isinstance(space, gym.spaces.Box):
        wanted = actions.reshape(len(actions), *space.shape)
        return np.clip(wanted, space.low, space.high).astype(space.dtype)
    raise SettingsError(f"actions of {type(space).__name__} are not supported")
