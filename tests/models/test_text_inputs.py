import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backflip.errors import ModelError
from backflip.models import TextInputs

PAIRS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 9), min_size=1, max_size=6),
        st.lists(st.integers(0, 9), max_size=6),
    ),
    min_size=1,
    max_size=5,
)


def test_a_row_is_prompt_reply_padding():
    inputs = TextInputs.of([[5, 6, 7], [4]], [[8, 9], [3]], pad_id=0)
    assert inputs.input_ids_BL.tolist() == [[5, 6, 7, 8, 9], [4, 3, 0, 0, 0]]
    assert inputs.actions_BT.tolist() == [[8, 9], [3, 0]]
    assert inputs.mask_BT.tolist() == [[True, True], [True, False]]
    assert inputs.predicting_BT.tolist() == [[2, 3], [0, 0]]
    assert inputs.row_lengths.tolist() == [5, 2]
    assert inputs.num_rows == 2


@given(PAIRS)
@settings(deadline=None)
def test_every_view_agrees_with_the_rows_it_was_made_of(pairs):
    prompts, replies = [p for p, _ in pairs], [r for _, r in pairs]
    # 3 is a token of the text and the padding too: nothing may be inferred from it.
    inputs = TextInputs.of(prompts, replies, pad_id=3)
    for row, (prompt, reply) in enumerate(pairs):
        mask = inputs.mask_BT[row]
        length = int(inputs.row_lengths[row])
        assert inputs.input_ids_BL[row, :length].tolist() == prompt + reply
        assert inputs.input_ids_BL[row, length:].eq(3).all()
        assert inputs.actions_BT[row][mask].tolist() == reply
        assert inputs.actions_BT[row][~mask].eq(3).all()
        expected = [len(prompt) - 1 + step for step in range(len(reply))]
        assert inputs.predicting_BT[row][mask].tolist() == expected


@given(PAIRS, st.data())
@settings(deadline=None)
def test_selected_rows_are_as_if_laid_alone(pairs, data):
    rows = data.draw(st.lists(st.integers(0, len(pairs) - 1), min_size=1, max_size=6))
    whole = TextInputs.of([p for p, _ in pairs], [r for _, r in pairs], pad_id=3)
    part = whole.select(torch.tensor(rows))
    alone = TextInputs.of([pairs[i][0] for i in rows], [pairs[i][1] for i in rows], pad_id=3)
    for name in ("input_ids_BL", "row_lengths", "actions_BT", "mask_BT", "predicting_BT"):
        assert torch.equal(getattr(part, name), getattr(alone, name)), name


def test_bad_rows_are_refused():
    with pytest.raises(ModelError, match="2 prompts but 1 replies"):
        TextInputs.of([[1], [2]], [[1]], pad_id=0)
    with pytest.raises(ModelError, match="no rows"):
        TextInputs.of([], [], pad_id=0)
    with pytest.raises(ModelError, match="prompt 1: has no tokens"):
        TextInputs.of([[1], []], [[1], [2]], pad_id=0)
    with pytest.raises(ModelError, match="reply 0: is not a row of token ids"):
        TextInputs.of([[1]], [np.array([0.5])], pad_id=0)
    with pytest.raises(ModelError, match="prompt 0: is not a row of token ids"):
        TextInputs.of([np.array([[1]])], [[1]], pad_id=0)
