"""Environments of our own, registered with Gymnasium, and the making of any."""

from backflip.environments.making import make_env
from backflip.environments.point_mass import POINT, PointEnv

__all__ = ["POINT", "PointEnv", "make_env"]
