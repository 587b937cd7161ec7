"""Label Studio's tasks with their annotations, as it imports and exports them ("JSON").

    {"data": {"prompt": [...], "response_a": ...}, "annotations": [{"result": [
        {"from_name": "rating", "to_name": "response_a", "type": "rating", "value": {"rating": 4}}
    ], "lead_time": 12.5}]}

`from_name` is the question: the name of a control in the labelling configuration.
"""

from collections.abc import Mapping
from typing import Any

from backflip.data.fields import Fields
from backflip.formats.base import TEXT_FILES, Format, Labelled, Origin, RenderOptions
from backflip.formats.questions import QUESTIONS, Answer, answered, ask, together
from backflip.formats.shown import REPLIES, Shown, checked_name
from backflip.records import Sample
from backflip.records.feedback import FeedbackBase

# By the type of an answer: the control that gives it, and the name of its value.
_CONTROLS = {
    "label": ("choices", "choices"),
    "labels": ("choices", "choices"),
    "level": ("rating", "rating"),
    "count": ("number", "number"),
    "order": ("ranker", "ranker"),
    "text": ("textarea", "text"),
}
_SIDES = {"left": REPLIES[0], "right": REPLIES[1]}
_NEITHER = "neither"
"""The control beside the pair that can say "tie" and "both_bad", which the pair itself cannot."""
_LIST = "responses"
"""Where the replies of a ranking stand: a list of objects with id and body."""
_ASIDE = (
    "id",
    "inner_id",
    "project",
    "predictions",
    "drafts",
    "meta",
    "file_upload",
    "allow_skip",
    "created_at",
    "updated_at",
    "updated_by",
    "total_annotations",
    "cancelled_annotations",
    "total_predictions",
    "comment_authors",
    "comment_count",
    "unresolved_comment_count",
    "last_comment_updated_at",
)
"""Fields of a task in which Label Studio keeps its books."""
_OF_ONE = ("rating", "good_bad", "correction", "critique", "level", "safety_flag", "category")


def _suits(data: Mapping[str, Any]) -> bool:
    return isinstance(data.get("data"), Mapping) and isinstance(data.get("annotations"), list)


def _render(
    entry: FeedbackBase, samples: Mapping[str, Sample], options: RenderOptions
) -> dict[str, Any]:
    shown, answers = ask(entry, samples)
    texts = shown.texts()
    if "ranking" in answers:
        texts = {"prompt": texts.pop("prompt"), _LIST: [_listed(*pair) for pair in texts.items()]}
    result = [_result(name, answer) for name, answer in answers.items()]
    # Label Studio refuses a file that names users it does not have, but keeps what meta holds.
    result[0]["meta"] = {"annotator": entry.annotator}
    annotation = {"result": result, "was_cancelled": False, "ground_truth": False}
    if entry.seconds is not None:
        annotation["lead_time"] = entry.seconds
    return {"data": texts | shown.about(), "annotations": [annotation]}


def _listed(name: str, text: str) -> dict[str, str]:
    return {"id": name, "title": name.replace("_", " "), "body": text}


def _result(name: str, answer: Answer) -> dict[str, Any]:
    control, key = _CONTROLS[QUESTIONS[name]]
    to_name = REPLIES[0] if name in _OF_ONE else "prompt"
    value: Any = answer
    if name == "comparison":
        if side := next((side for side, reply in _SIDES.items() if reply == answer), None):
            # A pair is its own object: it stands above both texts.
            to_name, control, key, value = name, "pairwise", "selected", side
        else:
            name, value = _NEITHER, [answer]
    elif isinstance(answer, dict):
        to_name = _LIST
        value = {str(rank): [] for rank in sorted(set(answer.values()))}
        for reply, rank in answer.items():
            value[str(rank)].append(reply)
    elif isinstance(answer, str):
        value = [answer]
    return {
        "id": name,
        "from_name": name,
        "to_name": to_name,
        "type": control,
        "value": {key: value},
    }


def _parse(data: Fields, origin: Origin) -> Labelled:
    data.leave(*_ASIDE)
    task = data.get("data")
    if not isinstance(task, Mapping):
        raise ValueError("field 'data' is missing or not an object")
    given, ids = _texts(task)
    texts = data.nested("data", given, "field 'data'")
    shown = Shown.read(texts, texts, source=origin.place)
    annotations = data.get("annotations")
    if not isinstance(annotations, list):
        raise ValueError("field 'annotations' is missing or not a list")
    return together(
        answered(
            shown,
            _answers(data, results, ids),
            _annotator(annotation, results, origin),
            origin,
            seconds=annotation.get("lead_time"),
        )
        for annotation, results in map(_results, annotations, range(1, len(annotations) + 1))
        if not annotation.get("was_cancelled")
    )


def _texts(data: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The data with each reply in a field of its own, and the replies' names by their ids."""
    listed = data.get(_LIST)
    if listed is None:
        return dict(data), {}
    if not isinstance(listed, list) or not all(isinstance(item, Mapping) for item in listed):
        raise ValueError(f"field {_LIST!r} is not a list of objects with id and body")
    if len(listed) > len(REPLIES):
        raise ValueError(f"there are more than {len(REPLIES)} replies")
    ids = {str(item.get("id")): name for item, name in zip(listed, REPLIES, strict=False)}
    if len(ids) < len(listed):
        raise ValueError("two replies have the same id")
    bodies = {name: item.get("body") for item, name in zip(listed, REPLIES, strict=False)}
    return {name: value for name, value in data.items() if name != _LIST} | bodies, ids


def _results(annotation: Any, number: int) -> tuple[Fields, list[Fields]]:
    """An annotation and its results; their own fields are Label Studio's."""
    where = f"annotation {number}"
    fields = _own(annotation, where)
    if fields.get("was_cancelled"):
        return fields, []
    results = fields.get("result")
    if not isinstance(results, list):
        raise ValueError(f"{where}'s result is missing or not a list")
    return fields, [_own(result, f"result {i} of {where}") for i, result in enumerate(results, 1)]


def _own(value: Any, what: str) -> Fields:
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} is missing or not an object")
    return Fields(value)


def _answers(data: Fields, results: list[Fields], ids: Mapping[str, str]) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for result in results:
        name = str(result.get("from_name"))
        question = "comparison" if name == _NEITHER else name
        if question not in QUESTIONS:
            data.nested("annotations", {name: result}, name)  # told as not used
            continue
        if question in answers:
            raise ValueError(f"one annotation answers {question!r} twice")
        value = _own(result.get("value"), f"the value of {name!r}")
        answers[question] = _answer(name, value, ids)
    return answers


def _answer(name: str, value: Mapping[str, Any], ids: Mapping[str, str]) -> Any:
    if name == "comparison":
        return _SIDES.get(str(value.get("selected")))
    type_ = QUESTIONS["comparison" if name == _NEITHER else name]
    _, key = _CONTROLS[type_]
    if key not in value:
        raise ValueError(f"the value of {name!r} has no {key!r}")
    given = value[key]
    if type_ == "order":
        return _ranks(name, given, ids)
    if type_ in ("label", "text") and isinstance(given, list):
        if len(given) != 1:
            raise ValueError(f"the value of {name!r} holds {len(given)} answers and not one")
        return given[0]
    return given


def _ranks(name: str, given: Any, ids: Mapping[str, str]) -> dict[str, int]:
    """Ranks by reply: of a plain order, or of buckets that are named by the rank."""
    if isinstance(given, Mapping) and name not in given:
        buckets = given
    else:
        order = given[name] if isinstance(given, Mapping) else given
        buckets = {str(rank): [id_] for rank, id_ in enumerate(_ids(order, name), 1)}
    ranks: dict[str, int] = {}
    for bucket, members in buckets.items():
        for id_ in _ids(members, name):
            if id_ not in ids:
                raise ValueError(f"the value of {name!r} names a reply that is not there")
            if ids[id_] in ranks:
                raise ValueError(f"the value of {name!r} names a reply twice")
            if not (bucket.isascii() and bucket.isdecimal()):
                raise ValueError(f"the value of {name!r} has a reply in a bucket that is no rank")
            ranks[ids[id_]] = int(bucket)
    return ranks


def _ids(value: Any, name: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(id_, str) for id_ in value):
        raise ValueError(f"the value of {name!r} is not a list of ids")
    return value


def _annotator(annotation: Fields, results: list[Fields], origin: Origin) -> str:
    """The name that we wrote, else the user's address or number, else the file's."""
    for result in results:
        meta = result.get("meta")
        if isinstance(meta, Mapping) and meta.get("annotator") is not None:
            return checked_name(meta["annotator"], "annotator")
    user = annotation.get("completed_by")
    if isinstance(user, Mapping):
        user = next((user[key] for key in ("email", "id") if user.get(key) is not None), None)
    if user is None:
        return origin.annotator
    return checked_name(f"user-{user}" if isinstance(user, int) else user, "annotator")


LABEL_STUDIO = Format(
    name="label-studio",
    summary="Label Studio: tasks with data and annotations",
    suits=_suits,
    parse=_parse,
    render=_render,
    files=TEXT_FILES,
)
