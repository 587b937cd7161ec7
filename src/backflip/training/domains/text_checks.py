"""What can be told about the texts of a run before any work: rows, lengths, templates."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from backflip.data import Codec, heldout_ids, load_prompts, read_demonstrations, read_texts
from backflip.data.files import Rejected, may_be_on_hub
from backflip.data.lengths import Fitted, Limit, fit_prompts, fit_samples
from backflip.data.opening import look_up, no_such_file
from backflip.models.padding import same_tokens
from backflip.models.vocabulary import drawn_and_not_read
from backflip.records import Prompt, Sample
from backflip.records.plan import PRETRAIN, SFT
from backflip.records.problems import Findings, Problem
from backflip.training.domains.domain import Given
from backflip.training.domains.text_readers import TextReaders
from backflip.training.limits import TextReader, dialogue_limits, scored_limits
from backflip.training.trainers.language import (
    encode_texts,
    no_demonstrations,
    told_heldout,
    without_heldout,
)

SIDES = ("train", "heldout")
NAMED = 3
"""Tokens that a problem names; there may be thousands."""
BAD_ROW = "Mend the row, or take it out."


class TextCheck:
    """Reads all texts of a run as its stages will, and notes everything that is wrong."""

    def __init__(self, domain: TextReaders, given: Given):
        self._domain = domain
        self._given = given
        self._pretrain = domain.pretrain if PRETRAIN.name in given.ahead else None
        self._sft = domain.sft if SFT.name in given.ahead else None
        self._there: dict[str, list[str]] = {}
        self._missing: set[str] = set()
        self._scorers: list[TextReader] = []
        self._heldout: set[str] = set()
        self._no_room = False
        self.found = Findings()

    def sources(self) -> bool:
        """Look at the files, without a model. Returns whether a model can be made from them."""
        self._look_for_files()
        fit = True
        if self._pretrain is not None:
            before = len(self.found.problems)
            self._read_texts("pretrain.text", self._pretrain.text)
            unread = len(self.found.problems) > before or "pretrain.text" in self._missing
            fit = not (unread and self._pretrain.scratch is not None)
        if self._given.texts:
            self._read_texts(self._given.texts_key, self._given.texts)
        if self._given.whole and self._given.reward:
            self._check_reward_tokens()
        return fit

    def rows(self) -> None:
        """Read prompts and demonstrations where no model is there to say how long they are."""
        if self._given.dialogues and self._there["prompts.source"]:
            with self.found.noting("prompts.source"):
                self._load_prompts()
        if self._sft is not None:
            with self.found.noting("sft.data"):
                for _ in self._read_demonstrations(self._there["sft.data"]):
                    pass

    def lengths(self) -> None:
        """Encode everything that is read, and hold it to the limits."""
        given, readable = self._given, len(self.found.problems)
        with self.found.noting("model.name"):
            reader = self._domain.reader()
            if given.dialogues:
                self._check_template(reader, "model.chat")
        if len(self.found.problems) > readable:
            self.rows()
            return
        self._find_scorers()
        scorers_can_be_read = len(self.found.problems) == readable
        if not scorers_can_be_read:
            self._scorers = []
        if given.answered:
            self._check_drawn()
            self._check_reply()
        if given.dialogues:
            self._check_prompts()
        drops = self._domain.reward_settings.too_long == "drop"
        prompts_are_there = "prompts.source" not in self._missing
        if self._scorers and given.whole and drops and prompts_are_there and not self._no_room:
            self._check_room()
        if self._sft is not None:
            self._check_demonstrations()
        if scorers_can_be_read and prompts_are_there:
            self._check_told()
        if self._pretrain is not None:
            with self.found.noting("pretrain.text"):
                self._check_embedded("pretrain.text")
                self._check_rows(self._pretrain.sequence_length)
        if given.texts:
            with self.found.noting(given.texts_key):
                self._check_embedded(given.texts_key)

    def _find_scorers(self) -> None:
        """Find what scores replies: new reward models, and those that a stage is given."""
        domain = self._domain
        policy, chat = domain.reader(), domain.reward_settings.model.chat
        if self._given.reward:
            with self.found.noting("reward.model.name"):
                self._scorers.append(domain.reward_reader())
        for place in self._given.scorers:
            with self.found.noting("--reward"):
                self._scorers.append(TextReader.of(str(place), chat, policy))
        for scorer in self._scorers:
            if scorer.chat is not policy.chat:
                with self.found.noting("reward.model.name"):
                    self._check_template(scorer, "reward.model.chat")

    def _check_drawn(self) -> None:
        """Whatever the policy may draw must have an embedding in each model that scores it."""
        policy = self._domain.reader()
        drawing = policy.chat.tokenizer
        for scorer in self._scorers:
            reading, rows = scorer.chat.tokenizer, scorer.chat.rows
            found = drawn_and_not_read(drawing, policy.chat.rows, reading, rows)
            if not found:
                continue
            alike = same_tokens(drawing, reading)
            names = [f"{reading.convert_ids_to_tokens(i)!r} ({i})" for i in found[:NAMED]]
            more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
            self.found.add(
                f"the policy {policy.name} may {'draw' if alike else 'write'} {len(found)} tokens "
                f"that the reward model {scorer.name} cannot read, which has {rows} embeddings "
                f"and none for them: {', '.join(names)}{more}",
                "--reward" if self._given.scorers else "reward.model.name",
                "Call resize_token_embeddings(len(tokenizer)) on the reward model, train it on "
                "texts with these tokens and save it again; or name one that has as many "
                "embeddings as the policy.",
                fatal=alike,
            )

    def _check_template(self, reader: TextReader, key: str) -> None:
        for problem in reader.chat.problems():
            self.found.add(problem, key, "Name a file of another template as model.chat.template.")

    def _look_for_files(self) -> None:
        source = self._domain.prompt_settings.source
        named = {
            "prompts.source": (source,) if self._given.dialogues else (),
            "pretrain.text": self._pretrain.text if self._pretrain else (),
            "sft.data": self._sft.data if self._sft else (),
            self._given.texts_key: self._given.texts,
        }
        for key, files in named.items():
            there = self._there.setdefault(key, [])
            for file in files:
                elsewhere = file.startswith("builtin:") or may_be_on_hub(file)
                if key in ("prompts.source", "sft.data") and elsewhere:
                    there.append(file)
                elif look_up(Path(file)) is None:
                    hint = no_such_file(Path(file)).hint
                    self.found.add(f"no such file: {file}", key, hint)
                    self._missing.add(key)
                else:
                    there.append(file)

    def _check_reward_tokens(self) -> None:
        """Whether reward models read more than a reply alone."""
        settings, reply = self._domain.reward_settings, self._domain.sampling.max_tokens
        if settings.too_long == "refuse" and settings.max_tokens <= reply:
            self.found.add(
                f"{settings.max_tokens} tokens leave no room for a prompt beside a reply of "
                f"{reply}, as sampling.max_tokens allows",
                "reward.max_tokens",
                f"Set it to {reply} and the tokens of the longest prompt, or more.",
            )

    def _check_reply(self) -> None:
        """Whether each model reads more than a reply."""
        reply = self._domain.sampling.max_tokens
        readers = [("the model", self._domain.reader())]
        readers += [("the reward model", scorer) for scorer in self._scorers]
        known: set[int | None] = {None}
        for who, reader in readers:
            if reader.positions in known:
                continue
            known.add(reader.positions)
            if reader.positions is not None and reply >= reader.positions:
                self._no_room = True
                self.found.add(
                    f"{reply} tokens and a prompt do not fit in the {reader.positions} that {who} "
                    "reads",
                    "sampling.max_tokens",
                    f"Set it to fewer than {reader.positions}.",
                )

    def _read_texts(self, key: str, files: Sequence[str]) -> None:
        if not files:
            self.found.add("names no text", key, "Give one file or more.")
            return
        number = 0
        with self.found.noting(key):
            for _ in read_texts(self._there[key], on_rejected=self._reject):
                number += 1
            if not number and self._there[key]:
                self.found.add("holds no text to learn from", ", ".join(self._there[key]))
        self.found.facts[key] = {"number": number}

    def _check_prompts(self) -> None:
        domain = self._domain
        if "prompts.source" in self._missing:
            return
        with self.found.noting("prompts.source"):
            prompts = self._load_prompts()
            how = domain.prompt_settings.too_long
            answered = self._given.answered
            # Where some are left out or cut, all that a stage reads are those that remain.
            used = [p for p in prompts if how != "refuse" or p.split in answered]
            fitted = fit_prompts(used, self._limits_of_prompts(), how)
            there = [*fitted.kept, *(excess.item for excess in fitted.refused)]
            self._heldout = heldout_ids([*prompts, *there])
            unread = [] if how != "refuse" else [p for p in prompts if p.split not in answered]
            sides = {side: sum(p.split == side for p in (*there, *unread)) for side in SIDES}
            self._note(fitted, "prompts", "prompts.too_long", how)
            asked = [p for p in there if p.split in answered]
            self._check_replies(asked)
            if not self._given.whole:
                self._check_scored(asked)
            self.found.facts["prompts"] |= sides
            for side in answered:
                if not sides[side] and fitted.dropped:
                    self.found.add(
                        f"no {side} prompt is left: all {len(fitted.dropped)} that were left out "
                        "are too long",
                        "prompts.too_long",
                        _way_out(fitted, ()),
                    )

    def _load_prompts(self) -> list[Prompt]:
        domain, unused = self._domain, Counter[str]()
        prompts = load_prompts(
            domain.prompt_settings, domain.seed, ignored=unused, on_rejected=self._reject
        )
        self._tell_unused(unused, "prompts.source")
        return prompts

    def _limits_of_prompts(self) -> list[Limit]:
        """What prompts are held to: by the whole run, or by the reading of them in a stage.

        Limits that let in no prompt at all are wrong themselves, which is told of them.
        """
        scored = self._domain.prompt_settings.too_long != "refuse"
        if self._given.whole:
            scored = bool(self._scorers)
        limits = self._domain.limits_of_prompts(scored=scored)
        return [limit for limit in limits if limit.most > 0]

    def _check_scored(self, prompts: Sequence[Prompt]) -> None:
        """Whatever a model replies to these prompts is scored, so it must not be too long."""
        for scorer in self._scorers:
            limits = [x for x in scored_limits(self._domain.sampling, scorer) if x.most > 0]
            fitted = fit_prompts(prompts, limits, "refuse")
            for excess in fitted.refused:
                self.found.add(str(excess), excess.item.place, _way_out(fitted, ()))

    def _check_room(self) -> None:
        """Where long samples are left out, prompts beside which no reply fits give no feedback."""
        domain, most = self._domain, self._domain.reward_settings.max_tokens
        with self.found.noting():
            train = [prompt for prompt in domain.prompts() if prompt.split == "train"]
            room = Limit(domain.reward_reader().chat, most - 1, "", str)
            fitted = fit_prompts(train, [room], "drop")
            if fitted.dropped:
                self.found.add(
                    f"{len(fitted.dropped)} of {len(train)} prompts leave no room for a reply "
                    f"within {most} tokens, so feedback on them is always left out",
                    "reward.max_tokens",
                    f"Set it to {fitted.longest + domain.sampling.max_tokens} to keep all.",
                    fatal=not fitted.kept,
                )

    def _check_replies(self, prompts: Sequence[Prompt]) -> None:
        """Replies that the policy draws keep their tokens; all others are encoded after prompts."""
        domain = self._domain
        policy = domain.reader().chat
        # These first: the same problem counts once, and here it is fatal.
        readers = [
            ("reward.model.chat", scorer.chat, True)
            for scorer in self._scorers
            if scorer.chat is not policy
        ]
        if self._given.whole:
            readers.append(("model.chat", policy, self._given.written))
        for key, chat, fatal in readers:
            for prompt, error in chat.unanswerable(prompts):
                hint = (error.hint or "").replace("model.chat", key)
                self.found.add(
                    f"replies to it cannot be encoded: {error.what}",
                    prompt.place,
                    hint if fatal else f"Only those that are drawn can be used. {hint}",
                    fatal=fatal,
                )

    def _check_demonstrations(self) -> None:
        sft, domain = self._sft, self._domain
        if sft is None or not (sft.data or "prompts.source" not in self._missing):
            return  # what the workspace has is parted by the prompts
        with self.found.noting("sft.data"):
            given, num_heldout = (
                without_heldout(self._read_demonstrations(self._there["sft.data"]), self._heldout)
                if sft.data
                else (self._given.shown(), 0)
            )
            if num_heldout:
                self.found.add(told_heldout(num_heldout), "sft.data", fatal=False)
            limits = dialogue_limits(sft, domain.reader())
            fitted = fit_samples(given, limits, sft.too_long)
            self._note(fitted, "demonstrations", "sft.too_long", sft.too_long)
            left = fitted.kept or fitted.refused or fitted.failed
            if not left and "sft.data" not in self._missing:
                raise no_demonstrations(num_long=len(fitted.dropped), num_heldout=num_heldout)

    def _read_demonstrations(self, files: Sequence[str]) -> Iterator[Sample]:
        unused: Counter[str] = Counter()
        yield from read_demonstrations(files, ignored=unused, on_rejected=self._reject)
        self._tell_unused(unused, "sft.data")

    def _check_told(self) -> None:
        domain = self._domain
        with self.found.noting("feedback.use"):
            how = domain.reward_settings.too_long
            if told := self._given.told():
                limits = domain.limits_of_feedback(reward=self._given.reward)
                fitted = fit_samples(told, limits, how)
                self._note(fitted, "feedback", "reward.too_long", how)

    def _check_embedded(self, key: str) -> None:
        """The model must have an embedding of each token of a text that it learns from."""
        chat, files = self._domain.reader().chat, self._there[key]
        if chat.rows is None or not files:
            return
        for _ in encode_texts(
            chat.tokenizer,
            files,
            rows=chat.rows,
            on_failed=lambda error: self.found.note(Problem.of(error)),
            on_rejected=lambda _: None,  # told before
        ):
            pass

    def _check_rows(self, length: int) -> None:
        """A text that fills a row is read from its start to the row's end."""
        reader = self._domain.reader()
        if reader.positions is None or length - 1 <= reader.positions:
            return
        codec = Codec(reader.chat.tokenizer)
        for text in read_texts(self._there["pretrain.text"], on_rejected=lambda _: None):
            if len(codec.encode_text(text)) > reader.positions:
                self.found.add(
                    f"rows of {length} tokens are longer than the "
                    f"{reader.positions} that the model reads",
                    "pretrain.sequence_length",
                    f"Set it to {reader.positions} or less.",
                )
                return

    def _note(
        self,
        fitted: "Fitted[Prompt] | Fitted[Sample]",
        part: str,
        key: str,
        chosen: str,
    ) -> None:
        """Problems and figures of what was read; `key` says `chosen` of what is too long."""
        self.found.facts[part] = fitted.facts()
        for item, error in fitted.failed:
            problem = Problem.of(error)
            self.found.note(problem.model_copy(update={"where": item.place}))
        ways = ("drop",) if key == "reward.too_long" else ("drop", "cut")
        others = {"refuse": ways, "cut": ("drop",)}.get(chosen, ())
        hint = _way_out(fitted, [f'{key} = "{way}"' for way in others])
        for excess in fitted.refused:
            self.found.add(str(excess), excess.item.place, hint)
        changed = {"left out": len(fitted.dropped), "cut to their newest turns": fitted.num_cut}
        if told := " and ".join(f"{n} are {what}" for what, n in changed.items() if n):
            self.found.add(f"of {part} that are too long, {told}", key, fatal=False)

    def _tell_unused(self, columns: Counter[str], key: str) -> None:
        if columns:
            told = ", ".join(f"{name} ({number})" for name, number in sorted(columns.items()))
            self.found.add(
                f"columns that are not used, and in how many rows: {told}", key, fatal=False
            )

    def _reject(self, rejected: Rejected) -> None:
        self.found.add(rejected.reason, f"{rejected.file}:{rejected.line}", BAD_ROW)


def _way_out(fitted: "Fitted[Prompt] | Fitted[Sample]", ways: Sequence[str]) -> str:
    """What would let in all that does not fit."""
    longest: dict[str, int] = {}
    limits: dict[str, Limit] = {}
    for excess in (*fitted.refused, *fitted.dropped):
        for limit, tokens in excess.broken:
            limits[limit.why] = limit
            longest[limit.why] = max(tokens, longest.get(limit.why, 0))
    # Two models of as many positions are mended by one word.
    mends = ", ".join(dict.fromkeys(limits[why].mend(n) for why, n in longest.items()))
    other = f" Or say {' or '.join(ways)}." if ways else ""
    return f"{mends[:1].upper()}{mends[1:]}.{other}"
