"""Strict settings of every part; no torch."""

from backflip.config.base import NONE, Settings, apply_overrides, lines_of, merge, read_toml
from backflip.config.extensions import load_extensions
from backflip.config.loop import LoopSettings
from backflip.config.models import (
    ChatSettings,
    Device,
    LoraSettings,
    ModelSettings,
    OptimizerSettings,
    Precision,
    SamplingSettings,
    ScratchSettings,
)
from backflip.config.server import OidcSettings, ServerSettings
from backflip.config.stages import (
    EvaluationSettings,
    FeedbackSettings,
    JudgeSettings,
    MixtureSettings,
    PretrainSettings,
    PromptSettings,
    RewardSettings,
    SelectionSettings,
    SftSettings,
    TeacherSettings,
)

__all__ = [
    "NONE",
    "ChatSettings",
    "Device",
    "EvaluationSettings",
    "FeedbackSettings",
    "JudgeSettings",
    "LoopSettings",
    "LoraSettings",
    "MixtureSettings",
    "ModelSettings",
    "OidcSettings",
    "OptimizerSettings",
    "Precision",
    "PretrainSettings",
    "PromptSettings",
    "RewardSettings",
    "SamplingSettings",
    "ScratchSettings",
    "SelectionSettings",
    "ServerSettings",
    "Settings",
    "SftSettings",
    "TeacherSettings",
    "apply_overrides",
    "lines_of",
    "load_extensions",
    "merge",
    "read_toml",
]
