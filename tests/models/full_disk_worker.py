"""A process that may write files of a few bytes only, as on a disk that is full.

It is given a folder, and prints what came of every write, as one JSON document. The limit is the
system's: whatever writes, in Python or not, is refused.
"""

import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from backflip.agents import AgentPolicy
from backflip.config import ScratchSettings
from backflip.errors import BackflipError
from backflip.evaluation.report import page
from backflip.models import TextPolicy, make_model, save_model, train_tokenizer
from backflip.models.gguf import convert_gguf
from backflip.workspace import Workspace

LIMITS = (0, 300, 3_000, 12_000)


def limit(size: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))


def everything_under(folder: Path) -> dict[str, int]:
    """Files by name, with a hash of what is in them."""
    return {
        str(path.relative_to(folder)): hash(path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def attempt(write: Callable[[], object], size: int, folder: Path) -> dict[str, Any]:
    before = everything_under(folder)
    limit(size)
    try:
        write()
        told = None
    except BackflipError as error:
        told = [type(error).__name__, error.what, error.where, error.hint]
    except Exception as error:
        told = [type(error).__name__, str(error), None, None]
    finally:
        limit(resource.RLIM_INFINITY)
    return {"limit": size, "told": told, "left": everything_under(folder) != before}


def main(root: Path, gguf: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    tokenizer = train_tokenizer(["the kettle sang while the rain drew rivers"] * 4, 300)
    model = make_model(ScratchSettings(width=16, layers=1, heads=2), tokenizer, 1)
    policy = TextPolicy.from_model(model, tokenizer)
    agent = AgentPolicy({"observation": 3, "actions": 2, "discrete": True, "width": 64})
    workspace = Workspace.create(root / "workspace")
    page.gather = lambda workspace, run_id: None
    page.render = lambda facts: "<p>" * 20_000
    os.environ["BACKFLIP_CACHE"] = str(root / "cache")
    writes: dict[str, Callable[[], object]] = {
        "policy": lambda: policy.save(root / "policy" / "new", {}),
        "policy again": lambda: policy.save(root / "policy" / "old", {}),
        "scratch": lambda: save_model(model, tokenizer, root / "scratch" / "new"),
        "agent": lambda: agent.save(root / "agent" / "new", {}),
        "gguf": lambda: convert_gguf(gguf),
        "report": lambda: page.write_report(workspace, "run-1"),
    }
    for name in ("policy", "scratch", "agent", "cache"):
        (root / name).mkdir()
    policy.save(root / "policy" / "old", {"step": 1})
    with torch.no_grad():
        next(iter(policy.trainable_state().values())).add_(1.0)
    print(json.dumps({name: [attempt(w, n, root) for n in LIMITS] for name, w in writes.items()}))
    workspace.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
