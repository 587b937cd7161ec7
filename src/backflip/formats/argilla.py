"""Argilla's records (2.x), as `dataset.records.to_json` writes and `from_json` reads them.

One record is one object of `argilla.Record.to_dict`: fields by name, metadata, and for each
question a list of answers with the id of the user who gave them:

    {"id": ..., "fields": {"prompt": [...], "response_a": ...}, "metadata": {"annotator": "mia"},
     "suggestions": {}, "responses": {"rating": [{"value": 4, "user_id": ...}]}, "vectors": {}}
"""

import uuid
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from backflip.data.fields import Fields
from backflip.formats.base import TEXT_FILES, Format, Labelled, Origin, RenderOptions
from backflip.formats.questions import QUESTIONS, Answer, answered, ask, together
from backflip.formats.shown import Shown, checked_name
from backflip.records import Sample
from backflip.records.feedback import FeedbackBase


def argilla_user_id(annotator: str) -> uuid.UUID:
    """The id that an annotator has as a user of Argilla, made of the name."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"urn:backflip:annotator:{annotator}")


def _suits(data: Mapping[str, Any]) -> bool:
    return all(isinstance(data.get(name), Mapping) for name in ("fields", "responses"))


def _render(
    entry: FeedbackBase, samples: Mapping[str, Sample], options: RenderOptions
) -> dict[str, Any]:
    shown, answers = ask(entry, samples)
    # Without the status Argilla would keep the answers as drafts.
    who = {"user_id": str(argilla_user_id(entry.annotator)), "status": "submitted"}
    return {
        "id": entry.id,
        "fields": shown.texts(),
        "metadata": {"annotator": entry.annotator, **shown.about()},
        "suggestions": {},
        "responses": {
            name: [{"value": _value(name, answer), **who}] for name, answer in answers.items()
        },
        "vectors": {},
    }


def _value(name: str, answer: Answer) -> Any:
    if QUESTIONS[name] == "order" and isinstance(answer, dict):
        return [{"value": reply, "rank": rank} for reply, rank in answer.items()]
    return answer


def _parse(data: Fields, origin: Origin) -> Labelled:
    data.leave("id", "_server_id", "status", "suggestions", "vectors")
    metadata = data.nested("metadata", data.get("metadata") or {}, "field 'metadata'")
    fields = data.nested("fields", data.get("fields"), "field 'fields'")
    shown = Shown.read(fields, metadata, source=origin.place)
    by_user: defaultdict[uuid.UUID, dict[str, Any]] = defaultdict(dict)
    questions = data.nested("responses", data.get("responses"), "field 'responses'")
    for name in (name for name in questions if name in QUESTIONS):
        responses = questions[name]
        if not isinstance(responses, list):
            raise ValueError(f"the responses to {name!r} are not a list")
        for i, response in enumerate(responses, 1):
            given = data.nested("responses", response, f"response {i} to {name!r}")
            given.leave("status", "user_id", "value")
            if given.get("status", "submitted") != "submitted":
                continue
            answers = by_user[_user(given, name)]
            if name in answers:
                raise ValueError(f"one user answers {name!r} twice")
            answers[name] = _answer(name, given.get("value"))
    names = {user: _annotator(user, metadata) for user in by_user}
    return together(
        answered(shown, answers, names[user], origin) for user, answers in by_user.items()
    )


def _user(response: Mapping[str, Any], name: str) -> uuid.UUID:
    try:
        return uuid.UUID(response.get("user_id"))
    except (ValueError, TypeError, AttributeError):
        raise ValueError(f"the user_id of a response to {name!r} is not a UUID") from None


def _annotator(user: uuid.UUID, metadata: Mapping[str, Any]) -> str:
    """The name behind an id: that of the metadata where it fits, for others the id itself."""
    if "annotator" in metadata:
        name = checked_name(metadata["annotator"], "annotator")
        if argilla_user_id(name) == user:
            return name
    return str(user)


def _answer(name: str, value: Any) -> Any:
    if value is None:
        raise ValueError(f"a response to {name!r} has no value")
    if QUESTIONS[name] != "order":
        return value
    if not isinstance(value, list) or not all(isinstance(part, Mapping) for part in value):
        # What Argilla 2 itself exports: names in the order of the settings, not of the ranking.
        raise ValueError(f"the answer to {name!r} has no ranks: Argilla's own export drops them")
    ranks = {str(part.get("value")): part.get("rank") for part in value}
    if len(ranks) < len(value):
        raise ValueError(f"the answer to {name!r} names a reply twice")
    return ranks


ARGILLA = Format(
    name="argilla",
    summary="Argilla 2: records with fields, responses of users, and metadata",
    suits=_suits,
    parse=_parse,
    render=_render,
    files=TEXT_FILES,
)
