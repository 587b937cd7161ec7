"""Lets an agent act in Gymnasium environments; what it does comes back as clips."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor
from torch.distributions import Categorical

from backflip.agents.networks import AgentPolicy
from backflip.config import SamplingSettings
from backflip.environments import make_env
from backflip.errors import SettingsError
from backflip.records import Clip, Prompt, Sample, Situation, derive_seed
from backflip.sampling import Advance


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
        """K clips of each situation; see `Sampler.sample`."""
        samples: list[Sample] = []
        for prompt in prompts:
            for index in range(num_samples):
                clip = self._act(prompt, settings, derive_seed(seed, prompt.id, index))
                samples.append(
                    Sample.of(
                        prompt,
                        clip,
                        model=self.model_id,
                        weights_version=self.version,
                        seed=seed,
                        index=index,
                        settings=settings.model_dump(mode="json", exclude={"batch_size"}),
                    )
                )
                if advance is not None:
                    advance(1)
        return samples

    def load(self, weights: Mapping[str, Tensor], *, version: int) -> None:
        """Act with these weights from now on."""
        self.policy.load_state_dict(dict(weights))
        self.version = version

    def _act(self, prompt: Prompt, settings: SamplingSettings, seed: int) -> Clip:
        start = prompt.content
        if not isinstance(start, Situation):
            raise SettingsError(f"an agent cannot act in a {start.type}", where=prompt.place)
        env = make_env(start.environment)
        generator = torch.Generator().manual_seed(seed)
        observation, _ = env.reset(seed=start.seed)
        seen, done, logprobs, rewards = [observation], [], [], []
        terminated = truncated = False
        while not (terminated or truncated) and len(done) < settings.max_tokens:
            action, logprob = self._choose(observation, settings.temperature, generator)
            observation, reward, terminated, truncated, _ = env.step(_done_by(env, action))
            seen.append(observation)
            done.append(action)
            logprobs.append(logprob)
            rewards.append(float(reward))
        env.close()
        return Clip(
            environment=start.environment,
            observations=np.asarray(seen, np.float32),
            actions=np.asarray(done),
            logprobs=np.asarray(logprobs, np.float32),
            rewards=np.asarray(rewards, np.float32),
            terminated=bool(terminated),
            truncated=not terminated,
        )

    @torch.no_grad()
    def _choose(
        self, observation: np.ndarray, temperature: float, generator: torch.Generator
    ) -> tuple[np.ndarray | int, float]:
        seen = torch.from_numpy(np.float32(observation)).flatten()
        chosen = self.policy.distribution(seen, temperature=temperature)
        if isinstance(chosen, Categorical):
            action = torch.multinomial(chosen.probs, 1, generator=generator)[0]
            return int(action), float(chosen.log_prob(action))
        noise = torch.randn(chosen.mean.shape, generator=generator)
        action = chosen.mean + chosen.stddev * noise
        return action.numpy(), float(chosen.log_prob(action))


def _done_by(env: gym.Env[Any, Any], action: np.ndarray | int) -> Any:
    """What the environment is given for an action: a number within its space.

    A Gaussian policy may want more than the space allows. The clip keeps what the policy chose, so
    that its log-probability is that of the action it stands beside.
    """
    space = env.action_space
    if isinstance(space, gym.spaces.Discrete):
        return int(space.start) + int(action)
    if isinstance(space, gym.spaces.Box):
        return np.clip(np.reshape(action, space.shape), space.low, space.high).astype(space.dtype)
    raise SettingsError(f"actions of {type(space).__name__} are not supported")
