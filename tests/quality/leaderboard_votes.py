"""Votes for the tests of the leaderboard."""

from hypothesis import strategies as st

from backflip.quality.leaderboard import Leaderboard, Standing, Vote


def vote(a: str, b: str, outcome: str, prompt: object = "p", annotator: object = "u") -> Vote:
    return Vote(a, b, outcome, str(prompt), str(annotator))


def by_model(board: Leaderboard) -> dict[str, Standing]:
    return {standing.model: standing for standing in board.standings}


def grid(rows: list[list[int]]) -> list[Vote]:
    """Votes on x and y: the prompts are rows, the annotators columns, 1 where x won."""
    return [
        vote("x", "y", "a" if won else "b", prompt, annotator)
        for prompt, row in enumerate(rows)
        for annotator, won in enumerate(row)
    ]


@st.composite
def connected_votes(draw: st.DrawFn) -> list[Vote]:
    """Votes on two to six models, each of which won against the next, around in a ring."""
    size = draw(st.integers(2, 6))
    models = [f"m{i}" for i in range(size)]
    pairs = st.tuples(st.integers(0, size - 1), st.integers(1, size - 1), st.sampled_from("abt"))
    drawn = draw(st.lists(pairs, max_size=40))
    ring = [(i, 1, "a") for i in range(size)]
    places = st.integers(0, 4)
    return [
        vote(
            models[i],
            models[(i + step) % size],
            "tie" if outcome == "t" else outcome,
            draw(places),
            draw(places),
        )
        for i, step, outcome in drawn + ring
    ]
