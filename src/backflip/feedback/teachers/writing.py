"""What a simulated teacher writes: edits, replies of its own, and words of critique.

Nothing here draws at random: each function lists the texts a teacher could write, and the
teacher picks one by its gold.
"""

import re
from collections.abc import Sequence

from backflip.feedback.gold import (
    WORD_LIMIT,
    Gold,
    TextFacts,
    compound,
    read_text,
    split_sentences,
)
from backflip.records import Completion, Prompt, Sample

MAX_SENTENCES = 40
MIN_WORDS = 3

_CLAUSE_END = re.compile(r"[,;:]\s|\s(?:and|but|or|so|because|which|while)\s", re.IGNORECASE)
_NOT_A_TOPIC = re.compile(
    r"a|about|an|and|any|are|as|at|can|compose|could|create|describe|did|do|does|explain|find|for"
    r"|from|give|had|has|have|help|how|i|if|in|into|is|it|its|list|make|me|my|name|of|on|one|or"
    r"|our|please|reply|say|share|should|so|some|suggest|tell|that|the|their|them|these|this|to"
    r"|two|us|was|we|were|what|when|where|which|who|why|will|with|would|write|you|your",
    re.IGNORECASE,
)


def as_sample(prompt: Prompt, text: str) -> Sample:
    """A text that an annotator wrote, as a sample; equal texts to a prompt are one sample."""
    return Sample.of(prompt, Completion(text=text, finish="human"))


def corrections(sample: Sample, gold: Gold) -> list[str]:
    """Ever better edits of a completion: each takes one more step, the one that gains most.

    A step mends one fault: it leaves out a sentence that is unkind by itself or unfinished, or any
    sentence of a text that rambles; or it ends a sentence that was cut off at its last whole
    clause. What it gains is the gold of the whole text after it less that before, so an unkind
    sentence stays where the whole does not gain by its absence, and every edit has a higher gold
    than the sample. Texts of more than 40 sentences are first cut to 40. An empty reply is written
    anew. The list is empty when no step raises the gold above that of the text as it stands.
    """

    def value(text: str) -> float:
        return gold(as_sample(sample.prompt, text))

    pieces = split_sentences(sample.text)
    best = gold(sample)
    if not pieces:
        return [text for text in _templates(sample.prompt) if value(text) > best]
    best = max(best, value(_join(pieces)))
    path: list[str] = []
    if len(pieces) > MAX_SENTENCES:
        pieces = pieces[:MAX_SENTENCES]
        if value(_join(pieces)) > best:
            path.append(_join(pieces))
            best = value(path[-1])
    while steps := _steps(pieces):
        values = [value(_join(step)) for step in steps]
        top = max(range(len(steps)), key=values.__getitem__)
        if values[top] <= best:
            break
        pieces, best = steps[top], values[top]
        path.append(_join(pieces))
    return path


def _steps(pieces: list[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    facts = read_text(_join(pieces))
    rambling = facts.num_words > WORD_LIMIT or facts.repeated > 0
    steps: list[list[tuple[str, str]]] = []
    gap, last = pieces[-1]
    ended = _end_at_clause(last)
    if ended is not None:
        steps.append([*pieces[:-1], (gap, ended)])
    for i, (_, sentence) in enumerate(pieces):
        cut_off = i == len(pieces) - 1 and facts.unfinished
        if len(pieces) > 1 and (rambling or cut_off or compound(sentence) < 0):
            steps.append(_without(pieces, i))
    return steps


def _without(pieces: list[tuple[str, str]], left_out: int) -> list[tuple[str, str]]:
    """The pieces but one; a paragraph that loses its first sentence stays a paragraph."""
    rest = pieces[:left_out] + pieces[left_out + 1 :]
    if left_out < len(rest):
        gap, sentence = rest[left_out]
        rest[left_out] = (max(gap, pieces[left_out][0], key=_num_lines), sentence)
    return rest


def _num_lines(gap: str) -> int:
    return gap.count("\n")


def _join(pieces: Sequence[tuple[str, str]]) -> str:
    return pieces[0][1] + "".join(gap + sentence for gap, sentence in pieces[1:])


def _end_at_clause(sentence: str) -> str | None:
    """The whole clauses of an unfinished sentence; None when it is finished or has none."""
    if not read_text(sentence).unfinished:
        return None
    ends = [match.start() for match in _CLAUSE_END.finditer(sentence)]
    clause = sentence[: ends[-1]].rstrip(" ,;:-") if ends else ""
    return f"{clause}." if len(clause.split()) >= MIN_WORDS else None


def demonstrations(samples: Sequence[Sample]) -> list[str]:
    """Replies a teacher could give to the samples' prompt; never the whole text of one of them.

    The one, two or three whole sentences of the samples that are kindest by themselves, in their
    order there, and short replies written to the prompt.
    """
    taken = {sample.text.strip() for sample in samples}
    found: dict[str, tuple[float, int, str]] = {}
    for sample in samples:
        facts = read_text(sample.text)
        for sentence, kindness in zip(facts.sentences, facts.compounds, strict=True):
            if kindness > 0 and not read_text(sentence).unfinished:
                found.setdefault(sentence.casefold(), (kindness, len(found), sentence))
    kindest = sorted(found.values(), key=lambda item: (-item[0], item[1]))
    texts: list[str] = []
    for count in range(1, min(3, len(kindest)) + 1):
        in_order = sorted(kindest[:count], key=lambda item: item[1])
        texts.append(" ".join(sentence for _, _, sentence in in_order))
    return [text for text in (*texts, *_templates(samples[0].prompt)) if text not in taken]


def _templates(prompt: Prompt) -> list[str]:
    topic = _topic(prompt)
    return [
        f"What a lovely thing to ask about {topic}! I am happy to help, and I hope it goes well.",
        f"Thank you for bringing up {topic}. I would gladly share my best ideas with you.",
        "Thank you for asking! I am glad to help, and I hope you have a wonderful day.",
        "That is a great question. Let us enjoy working on it together!",
    ]


def _topic(prompt: Prompt) -> str:
    """Up to four words that say what the last turn is about."""
    words = re.findall(r"[\w'-]+", prompt.messages[-1].words)
    topic = [word for word in words if not _NOT_A_TOPIC.fullmatch(word)][:4]
    return " ".join(topic) or "this"


def critique(sample: Sample, level: int, num_levels: int) -> str:
    """A verdict in words that fits the level, and its grounds in the sample."""
    share = (level - 1) / (num_levels - 1)
    verdicts = ("This is bad.", "This is rather weak.", "This is fair.", "This is good.")
    verdict = "This is excellent." if share == 1 else verdicts[int(share * len(verdicts))]
    if isinstance(sample.content, Completion):
        facts = read_text(sample.text, cut_off=sample.content.truncated)
        grounds = _grounds(facts)
    else:
        clip = sample.content
        fell = "it ended early" if clip.terminated else "it went on to the end"
        grounds = [f"The agent acted for {clip.num_steps} steps and {fell}."]
    return " ".join([verdict, *grounds])


def _grounds(facts: TextFacts) -> list[str]:
    if not facts.sentences:
        return ["There is no reply."]
    grounds: list[str] = []
    values = dict(zip(facts.sentences, facts.compounds, strict=True))
    worst, best = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
    if values[worst] < 0:
        grounds.append(f"The line “{_short(worst)}” is unkind.")
    if values[best] > 0:
        grounds.append(f"The line “{_short(best)}” is pleasant.")
    if facts.num_words > WORD_LIMIT:
        grounds.append(f"It rambles on for {facts.num_words} words.")
    if facts.repeated > 0:
        grounds.append("It repeats itself.")
    if facts.unfinished:
        grounds.append("It stops before it is finished.")
    return grounds or ["It is neither warm nor cold."]


def _short(sentence: str, limit: int = 80) -> str:
    return sentence if len(sentence) <= limit else sentence[: limit - 1].rstrip() + "…"
