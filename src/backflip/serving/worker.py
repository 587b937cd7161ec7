"""Draws the replies that pages wait for: a process of its own beside the labelling server.

Requests come from the workspace and replies go back there; see
`backflip.workspace.services.generations`. Replies of one model with the same settings are drawn
together, and one that is asked for meanwhile joins them at the next look, unless another model or
other settings have been waited for longer. A reply is the one that `TextSampler.sample` gives for
its prompt, settings, seed and index. It is kept in the workspace as a sample, so that people can
say what they think of it.
"""

import gc
import secrets
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from backflip.config import ModelSettings, SamplingSettings
from backflip.errors import BackflipError, BusyError, ModelError, SettingsError, WorkspaceError
from backflip.models import load_causal_lm, pick_device, pick_precision
from backflip.models.files import RECORD
from backflip.records import Sample
from backflip.reporter import Reporter, Silent
from backflip.sampling import Stream, TextSampler, streaming
from backflip.workspace import Generation, Workspace

ROWS = 8
"""Replies drawn at once."""
POLL_SECONDS = 0.05
LOOK_SECONDS = 0.1
LOOK_SHARE = 0.1
"""Most of the time that showing texts may take; looks become rarer where it would be more."""
BEAT_SECONDS = 3.0
RETRY_SECONDS = 2.0


class Worker:
    """Takes requests and draws the replies until it is told to stop.

    A request that cannot be answered fails with the reason, and the others go on. Killed at any
    instant it loses nothing: the next worker draws what this one had begun, and the same text.

    Args:
        workspace: whose requests it takes.
        models_in_memory: models kept loaded; the one least recently used goes first.
        settings: precision and device of the models; their name is not asked.
        rows: replies drawn at once.
        look_seconds: between two looks at the text so far.
        reporter: is told of every reply.
    """

    def __init__(
        self,
        workspace: Workspace,
        *,
        models_in_memory: int = 1,
        settings: ModelSettings | None = None,
        rows: int = ROWS,
        look_seconds: float = LOOK_SECONDS,
        reporter: Reporter | None = None,
    ):
        self.name = f"worker-{secrets.token_hex(5)}"
        self._workspace = workspace
        self._generations = workspace.generations
        self._shelf = ModelCache(workspace, models_in_memory, settings or ModelSettings())
        self._rows = rows
        self._look_seconds = look_seconds
        self._reporter = reporter or Silent()
        self._counts = Counter(done=0, failed=0, cancelled=0)

    def run(
        self, *, once: bool = False, stopped: Callable[[], bool] = lambda: False
    ) -> dict[str, int]:
        """Draw replies.

        Args:
            once: end when nothing waits any more.
            stopped: asked before every token; once it is true the worker ends, and what it was at
                waits for another one.

        Returns:
            Number of replies that are done, failed and cancelled.

        Raises:
            BusyError: the database cannot be used, and `once`; otherwise it tries again.
        """
        with self._beating():
            while not stopped():
                try:
                    taken = self._generations.take(self.name, self._rows)
                    if taken:
                        self._serve(taken, stopped)
                    elif once:
                        break
                    else:
                        time.sleep(POLL_SECONDS)
                except BusyError as error:
                    if once:
                        raise
                    self._reporter.warn(str(error))
                    time.sleep(RETRY_SECONDS)
        return dict(self._counts)

    @contextmanager
    def _beating(self) -> Iterator[None]:
        """Say that this worker is alive, also while it loads a model."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(BEAT_SECONDS):
                with suppress(BackflipError):  # the work itself meets it too, and tells
                    self._generations.note_worker(self.name)

        self._generations.note_worker(self.name)
        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            with suppress(BusyError):  # after a while it is taken for dead
                self._generations.end_worker(self.name)

    def _serve(self, taken: list[Generation], stopped: Callable[[], bool]) -> None:
        """Draw replies of one model with the same settings."""
        first = taken[0]
        held = {each.id: each for each in taken}
        try:
            sampler = self._shelf.sampler(first.model)
            settings = SamplingSettings.parse(first.settings)
            with streaming(sampler, settings, rows=self._rows) as stream:
                self._begin(stream, held, taken)
                self._draw(stream, held, first, stopped)
        except BusyError:
            raise  # the requests are as good as before
        except BackflipError as error:
            self._fail(held.values(), error)
        except Exception as error:  # of a model or a device: replies of others can still be drawn
            self._reporter.warn(traceback.format_exc())
            self._shelf.drop(first.model)
            what = f"the model failed: {type(error).__name__}: {error}"
            self._fail(held.values(), ModelError(what, where=first.model))

    def _begin(
        self, stream: Stream, held: dict[str, Generation], asked: Iterable[Generation]
    ) -> None:
        for each in asked:
            held[each.id] = each
            try:
                stream.add(each.id, each.prompt, seed=each.seed, index=each.index)
            except BackflipError as error:
                self._fail([held.pop(each.id)], error)

    def _draw(
        self,
        stream: Stream,
        held: dict[str, Generation],
        first: Generation,
        stopped: Callable[[], bool],
    ) -> None:
        due = time.monotonic()
        while stream.keys and not stopped():
            finished = dict(stream.step())
            if finished:
                self._keep(finished)
                for key in finished:
                    del held[key]
            now = time.monotonic()
            if now >= due and stream.keys:
                self._look(stream, held, first)
                spent = time.monotonic() - now
                due = now + max(self._look_seconds, spent / LOOK_SHARE)

    def _keep(self, finished: dict[str, Sample]) -> None:
        # What is not wanted any more leaves nothing: who asked for it may have been forgotten.
        kept = self._generations.finish(self.name, finished)
        for key, sample in finished.items():
            self._counts["done" if key in kept else "cancelled"] += 1
            tokens = len(sample.completion.tokens)
            self._reporter.say(f"{key}: {tokens} tokens of {sample.model}")

    def _look(self, stream: Stream, held: dict[str, Generation], first: Generation) -> None:
        """Show how far the replies are, drop what is not wanted, and take what can join them."""
        wanted = self._generations.write(self.name, stream.texts())
        for key in stream.keys:
            if key not in wanted:
                stream.drop(key)
                del held[key]
                self._counts["cancelled"] += 1
        if stream.num_free:
            joined = self._generations.take(self.name, stream.num_free, beside=first)
            self._begin(stream, held, joined)

    def _fail(self, asked: Iterable[Generation], error: BackflipError) -> None:
        # Who reads it may be anybody who may ask: where things lie is only told here.
        told = "\n".join(part for part in (error.what, error.hint) if part)
        for each in asked:
            if self._generations.fail(self.name, each.id, told):
                self._counts["failed"] += 1
            self._reporter.warn(f"{each.id} failed: {error}")


class ModelCache:
    """The models in memory.

    Args:
        workspace: whose models they are.
        most: as many at once; the one least recently used goes first.
        settings: their precision and device.
    """

    def __init__(self, workspace: Workspace, most: int, settings: ModelSettings):
        self._models = workspace.models
        self._most = most
        self._device = pick_device(settings.device)
        self._dtype = pick_precision(settings.precision, self._device)
        self._held: dict[str, TextSampler] = {}

    def sampler(self, model_id: str) -> TextSampler:
        """The sampler of a model, loaded where it is not in memory.

        Raises:
            SettingsError: the model does not talk.
            WorkspaceError: there is no such model, or its files are gone.
            ModelError: they cannot be read, or not be sampled from.
        """
        sampler = self._held.pop(model_id, None) or self._load(model_id)
        self._held[model_id] = sampler
        return sampler

    def drop(self, model_id: str) -> None:
        """Let go of a model."""
        self._held.pop(model_id, None)

    def _load(self, model_id: str) -> TextSampler:
        folder = self._folder(model_id)
        chat = self._models.get(model_id).chat
        while len(self._held) >= self._most:
            self.drop(next(iter(self._held)))
        gc.collect()  # before the next one comes: layers and hooks of a model are rings
        loaded = load_causal_lm(str(folder), dtype=self._dtype, device=self._device)
        return TextSampler(*loaded, model_id=model_id, chat=chat)

    def _folder(self, model_id: str) -> Path:
        record = self._models.get(model_id)
        folder = self._models.folder(record)
        if record.stage == "reward":
            raise SettingsError(f"{record.name} is a reward model: it scores and does not talk")
        if not folder.is_dir():
            raise WorkspaceError(
                f"the files of model {record.name} are missing",
                where=str(folder),
                hint="Restore its folder.",
            )
        if (folder / RECORD).is_file() and not (folder / "tokenizer.json").is_file():
            raise SettingsError(f"{record.name} acts in an environment and does not talk")
        return folder
