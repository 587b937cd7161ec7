"""Environments by their Gymnasium name, our own among them."""

from typing import Any

import gymnasium as gym

from backflip.environments import point_mass as point_mass  # registers itself
from backflip.errors import SettingsError


def make_env(name: str) -> gym.Env[Any, Any]:
    """An environment of Gymnasium, or of ours.

    Args:
        name: as it is registered, "CartPole-v1" for instance.

    Raises:
        SettingsError: there is none of that name, or a package that it needs is missing.
    """
    try:
        return gym.make(name)
    except (gym.error.Error, ModuleNotFoundError) as error:
        raise SettingsError(
            f"the environment cannot be made: {error}", where="prompts.source"
        ) from None
