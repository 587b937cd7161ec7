"""What the judge does about servers that are silent, busy, broken or hostile."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from judge_server import (
    KIND,
    RUDE,
    Reply,
    completion,
    fault,
    judge_at,
    likes_kindness,
    replies_in,
    reply,
    serving,
)

from backflip.config import JudgeSettings
from backflip.errors import JudgeError
from backflip.judging.pairwise import Judge
from backflip.records import Clip, Completion, Prompt, Sample, Situation
from pictures import png, shows


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A",
        "VERDICT: C",
        "VERDICT: A or B",
        "VERDICT: A\nI hope that helps!",
        "VERDICT: B\nVERDICT: A",
        "I think VERDICT: A",
    ],
)
def test_anything_else_is_no_verdict(text: str) -> None:
    with serving(lambda _: text) as server, judge_at(server, retries=1) as judge:
        error = fault(judge, "verdict")
        assert len(server.requests) == 2
    assert KIND.id in error.where
    assert RUDE.id in error.where


def test_an_error_leads_to_the_prompt_in_the_users_file() -> None:
    prompt = Prompt.from_text("What is rain?", source="mine.txt:7")
    pair = [Sample.of(prompt, Completion(text=t, finish="stop"), model="m") for t in "xy"]
    with serving(lambda _: "?") as server, judge_at(server, retries=0) as judge:
        with pytest.raises(JudgeError) as caught:
            judge.compare(*pair)
        for sample in pair:
            assert f"{sample.id} (mine.txt:7)" in caught.value.where
        with pytest.raises(JudgeError) as caught:
            judge.read_critique(prompt, "Hm.")
        assert "mine.txt:7" in caught.value.where


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"not json",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"choices": []}',
        b'{"choices": [{"message": {"content": null}}]}',
        b"[" * 5000,
    ],
)
def test_a_broken_answer_names_the_samples(raw: bytes) -> None:
    with serving(lambda _: (200, {}, raw)) as server, judge_at(server, retries=0) as judge:
        error = fault(judge, "no answer after 1 try: the answer")
    assert KIND.id in str(error)


def test_an_endless_answer_is_cut_off() -> None:
    def endless(_: dict[str, Any]) -> Reply:
        return completion("x" * 2_000_000)

    with serving(endless) as server, judge_at(server, retries=0) as judge:
        fault(judge, "over 1000000 bytes")


def test_half_a_surrogate_does_not_reach_the_store() -> None:
    raw = b'{"choices": [{"message": {"content": "Hm \\ud800.\\nVERDICT: TIE"}}]}'
    with serving(lambda _: (200, {}, raw)) as server, judge_at(server) as judge:
        reason = judge.compare(KIND, RUDE).reason
    assert reason.encode("utf-8") == b"Hm ?."


def test_a_busy_server_is_asked_again_when_it_says() -> None:
    failures = iter([(429, {"Retry-After": "3"}, b"slow down"), (503, {}, b"")])

    def answer(body: dict[str, Any]) -> Reply | str:
        return next(failures, None) or likes_kindness(body)

    slept: list[float] = []
    with serving(answer) as server, judge_at(server, sleep=slept.append, retries=2) as judge:
        assert judge.compare(KIND, RUDE).choice == "a"
    assert len(server.requests) == 4
    assert slept == [3.0, 2.0]


def test_no_wait_is_longer_than_the_time_out() -> None:
    failures = iter([(429, {"Retry-After": "86400"}, b"")])
    slept: list[float] = []

    def answer(body: dict[str, Any]) -> Reply | str:
        return next(failures, None) or likes_kindness(body)

    with serving(answer) as server, judge_at(server, sleep=slept.append, timeout=7.0) as judge:
        judge.compare(KIND, RUDE)
    assert slept == [7.0]


def test_retries_end_and_the_error_says_what_the_server_said() -> None:
    with serving(lambda _: (500, {}, b"out of\nmemory")) as server:
        with judge_at(server, retries=2) as judge:
            fault(judge, "after 3 tries: the server said 500: out of mem")
        assert len(server.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 404, 302])
def test_a_refusal_is_not_asked_again(status: int) -> None:
    said = (status, {"Location": "http://127.0.0.1:1/"}, b"no")
    with serving(lambda _: said) as server, judge_at(server, retries=5) as judge:
        fault(judge, f"after 1 try: the server said {status}")
        assert len(server.requests) == 1


def test_a_silent_server_times_out_by_name() -> None:
    wait = threading.Event()

    def silent(_: dict[str, Any]) -> str:
        wait.wait(10)
        return "VERDICT: A"

    with serving(silent) as server:
        try:
            with judge_at(server, retries=1, timeout=0.2) as judge:
                error = fault(judge, r"2 tries: timed out after 0\.2 s")
        finally:
            wait.set()
    assert KIND.id in error.where


def test_a_server_that_drips_times_out_too() -> None:
    stop = threading.Event()

    class Dripping(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.end_headers()
            try:
                for _ in range(100):  # five seconds of it
                    if stop.wait(0.05):
                        return
                    self.wfile.write(b" ")
                    self.wfile.flush()
            except OSError:
                pass

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Dripping)
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    try:
        settings = JudgeSettings(
            url=f"http://127.0.0.1:{http.server_port}/v1", timeout=0.3, retries=0
        )
        with Judge(settings) as judge, pytest.raises(JudgeError, match="timed out"):
            judge.compare(KIND, RUDE)
    finally:
        stop.set()
        http.shutdown()
        thread.join()
        http.server_close()


def test_nobody_there_is_a_clear_error() -> None:
    with serving(likes_kindness) as server:
        url = server.url
    with Judge(JudgeSettings(url=url, retries=0), sleep=lambda _: None) as judge:
        error = fault(judge, "no connection")
    assert "judge.url" in error.hint


def test_many_pairs_keep_their_order_and_the_bound() -> None:
    def slow(body: dict[str, Any]) -> Reply | str:
        time.sleep(0.02)
        if "broken" in "".join(replies_in(body)):
            return 400, {}, b"no"
        return likes_kindness(body)

    texts = ["Dear me.", "Well, dear.", "broken", "My dear!", "Oh dear.", "dear", "Dear, dear."]
    pairs = [(reply(text, i), RUDE) for i, text in enumerate(texts)]
    stored: list[str] = []
    with serving(slow) as server, judge_at(server, parallel=3) as judge:
        judged = judge.compare_all(pairs, axis="kind", on_entry=lambda e: stored.append(e.id))
    assert server.most_under_way <= 3
    assert server.most_under_way > 1
    assert [e.samples[0] for e in judged.entries] == [a.id for a, _ in pairs if a.text != "broken"]
    assert sorted(stored) == sorted(e.id for e in judged.entries)
    assert {e.axis for e in judged.entries} == {"kind"}
    (failure,) = judged.failures
    assert pairs[2][0].id in failure.where


@pytest.mark.parametrize("parallel", [1, 3])
def test_a_callback_that_fails_loses_no_more_than_was_under_way(parallel: int) -> None:
    kept: list[object] = []

    def full(entry: object) -> None:
        time.sleep(0.05)  # the judge is quicker than the disk
        kept.append(entry)
        if len(kept) == 4:
            raise OSError("disk full")

    pairs = [(reply(f"Dear {i}.", i), RUDE) for i in range(50)]
    with (
        serving(likes_kindness) as server,
        judge_at(server, parallel=parallel, both_orders=False) as judge,
        pytest.raises(OSError, match="disk full"),
    ):
        judge.compare_all(pairs, on_entry=full)
    assert len(kept) <= len(server.requests) <= 4 + parallel - 1


def test_what_a_judge_cannot_read_is_refused() -> None:
    clip = Clip(
        environment="Point-v0",
        observations=np.zeros((2, 1), np.float32),
        actions=np.zeros(1, np.int64),
        logprobs=np.zeros(1, np.float32),
        rewards=np.zeros(1, np.float32),
        terminated=False,
        truncated=True,
    )
    situation = Prompt(content=Situation(environment="Point-v0", seed=1))
    with Judge(JudgeSettings()) as judge:
        with pytest.raises(JudgeError, match="cannot read a clip"):
            judge.compare(Sample.of(situation, clip), KIND)
        seen = [Sample.of(shows(png()), Completion(text=text)) for text in ("A cat.", "A dog.")]
        with pytest.raises(JudgeError, match="cannot see an image"):
            judge.compare(*seen)
        other = Sample.of(Prompt.from_text("And snow?"), Completion(text="Cold."))
        with pytest.raises(JudgeError, match="different prompts"):
            judge.compare(KIND, other)
