"""Rules of the stages' settings, and that each setting is explained."""

import inspect
from typing import Any

import pytest
from pydantic import BaseModel

import backflip.config
from backflip.config import (
    FeedbackSettings,
    OidcSettings,
    PromptSettings,
    RewardSettings,
    SamplingSettings,
    SelectionSettings,
    Settings,
    TeacherSettings,
)
from backflip.errors import SettingsError

CLASSES = [
    member
    for _, member in inspect.getmembers(backflip.config, inspect.isclass)
    if issubclass(member, Settings) and member is not Settings
]


REQUIRED = {OidcSettings: {"issuer": "https://example.org", "client_id": "backflip"}}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_setting_is_explained(cls: type[Settings]) -> None:
    for name, field in cls.model_fields.items():
        section = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        assert field.description or section, f"{cls.__name__}.{name}"
    assert cls.__doc__


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_defaults_round_trip(cls: type[Settings]) -> None:
    """Through JSON, in which the workspace keeps them."""
    made = cls.parse(REQUIRED.get(cls, {}))
    assert cls.parse(made.model_dump(mode="json")) == made


@pytest.mark.parametrize(
    ("cls", "data", "told"),
    [
        (FeedbackSettings, {"kinds": ["rating", "rating"]}, "names a kind twice"),
        (FeedbackSettings, {"kinds": []}, "list of at least 1"),
        (RewardSettings, {"axes": ["a", "a"]}, "names an axis twice"),
        (RewardSettings, {"axes": []}, "list of at least 1"),
        (RewardSettings, {"combine": "uncertain"}, "ensemble of at least 2"),
        (RewardSettings, {"mixture": {"weights": {"kind": 1}}}, "'kind', which is not among"),
        (
            RewardSettings,
            {"axes": ["overall"], "mixture": {"mode": "gated"}},
            "'safe', which is not among",
        ),
        (FeedbackSettings, {"selection": {"pool": 8}}, "pool belongs to a strategy other"),
        (SelectionSettings, {"random_share": 0.5}, "random_share belongs to a strategy other"),
        (SelectionSettings, {"strategy": "margin", "pool": 1}, "pool: should be at least 2"),
        (SelectionSettings, {"strategy": "margin", "random_share": 0}, "random_share: .* above 0"),
        (SelectionSettings, {"strategy": "margin", "random_share": 1}, "random_share: .* below 1"),
        (SelectionSettings, {"strategy": "bald"}, "strategy: should be one of 'random', 'dis"),
        (
            FeedbackSettings,
            {"samples_per_prompt": 1, "kinds": ["rating"], "selection": {"strategy": "margin"}},
            "margin.* compares the samples of a prompt and needs samples_per_prompt",
        ),
        (PromptSettings, {"heldout": 0}, "heldout"),
        (TeacherSettings, {"mistakes": 1.5}, "mistakes"),
    ],
)
def test_what_does_not_go_together_is_refused(
    cls: type[Settings], data: dict[str, Any], told: str
) -> None:
    with pytest.raises(SettingsError, match=told):
        cls.parse(data)


@pytest.mark.parametrize(
    ("cls", "data"),
    [
        (FeedbackSettings, {"samples_per_prompt": 1, "kinds": ["rating", "good_bad"]}),
        (FeedbackSettings, {"selection": {"strategy": "margin", "pool": 2, "random_share": 0.9}}),
        (
            FeedbackSettings,
            {"samples_per_prompt": 1, "kinds": ["rating"], "selection": {"strategy": "diverse"}},
        ),
        (RewardSettings, {"combine": "uncertain", "ensemble": 2}),
        (RewardSettings, {"axes": ["overall", "safe"], "mixture": {"mode": "gated"}}),
        (RewardSettings, {"axes": ["a", "b"], "mixture": {"weights": {"b": 0.5}}}),
    ],
)
def test_what_does_go_together_is_taken(cls: type[Settings], data: dict[str, Any]) -> None:
    assert cls.parse(data)


@pytest.mark.parametrize(
    ("changed", "plain"),
    [
        ({}, True),
        ({"temperature": 0.7}, True),
        ({"temperature": 0}, False),
        ({"top_k": 5}, False),
        ({"top_p": 0.9}, False),
        ({"min_p": 0.1}, False),
    ],
)
def test_plain_sampling_is_the_policys_own(changed: dict[str, Any], plain: bool) -> None:
    assert SamplingSettings(**changed).is_plain is plain


@pytest.mark.parametrize("stop", [[""], ["END", ""]])
def test_a_reply_cannot_stop_before_nothing(stop):
    with pytest.raises(SettingsError, match=r"stop\.\d: .*is empty"):
        SamplingSettings.parse({"stop": stop})


@pytest.mark.parametrize("stop", [[" "], ["\n"], ["\n\n", "User:"], ["\ud800"], []])
def test_a_reply_may_stop_before_anything_else(stop):
    assert SamplingSettings.parse({"stop": stop}).stop == tuple(stop)


@pytest.mark.parametrize("temperature", [1e-45, 9e-4, 101.0, float("inf"), float("nan"), -1.0])
def test_no_logits_are_divided_by_what_leaves_no_numbers(temperature):
    with pytest.raises(SettingsError, match="temperature"):
        SamplingSettings.parse({"temperature": temperature})


@pytest.mark.parametrize("temperature", [0.0, 1e-3, 0.7, 100.0])
def test_other_temperatures_may_be_drawn_at(temperature):
    assert SamplingSettings.parse({"temperature": temperature}).temperature == temperature
