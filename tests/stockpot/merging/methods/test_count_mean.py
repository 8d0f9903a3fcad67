"""The mean over the models that take part: masks, and rows of embeddings."""

import pytest
import torch

from stockpot.errors import InputError
from stockpot.merging.engine import merge_states
from stockpot.merging.method import method_of
from stockpot.merging.methods.count_mean import count_mean
from stockpot.merging.methods.linear import linear
from stockpot.merging.name_rules import NameRule, by_name
from stockpot.merging.recipe import Recipe


def test_entries_are_averaged_over_the_models_that_have_them():
    first = torch.tensor([1.0, 2.0, 0.0, 0.0])
    second = torch.tensor([3.0, 0.0, 5.0, 0.0])
    merged = count_mean([first, second], [1, 1])
    assert merged.tolist() == [2, 2, 5, 0]
    assert count_mean([first, second], [3, 1]).tolist() == [1.5, 2, 5, 0]


def test_one_mask_gives_the_mean():
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(4, 5, generator=generator) < 0.5
    tensors = [torch.randn(4, 5, generator=generator) * mask for _ in range(3)]
    torch.testing.assert_close(count_mean(tensors, [1, 2, 3]), linear(tensors, [1, 2, 3]))


def test_rows_are_averaged_over_the_models_that_trained_them():
    base = torch.tensor([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    first, second = base.clone(), base.clone()
    first[0] = torch.tensor([5.0, 1.0])  # one entry is as it was, but the row was trained
    first[1], second[1] = 4.0, 6.0
    merged = count_mean([first, second], [1, 1], base, count="rows")
    assert merged.tolist() == [[5, 1], [5, 5], [3, 3]]


def test_rows_that_weight_decay_alone_has_changed_are_not_counted():
    base = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    first, second = base * 0.99, base * 0.99
    first[0] = torch.tensor([3.0, 5.0])
    second[1] = torch.tensor([1e-30, 0.0])  # its square is 0 in float32
    tensors = [first, second]

    counted = count_mean(tensors, [1, 1], base, count="rows", tolerance=0.02)
    strict = count_mean(tensors, [1, 1], base, count="rows", tolerance=0.0)

    assert counted[0].tolist() == [3, 5]
    torch.testing.assert_close(strict[0], (first[0] + second[0]) / 2)
    assert counted[1].tolist() == strict[1].tolist() == second[1].tolist()


def test_of_sparse_rows_the_entries_that_are_not_zero_are_counted():
    base = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    first = torch.tensor([[5.0, 0.0, 7.0], [0.0, 2.0, 3.0], [8.0, 0.0, 0.0]])
    second = torch.tensor([[7.0, 4.0, 0.0], [1.0, 0.0, 3.0], [1.0, 2.0, 3.0]])

    merged = count_mean([first, second], [1, 1], base, count="rows")

    # The second row was pruned, but not trained; of the third, one model has pruned two entries.
    assert merged.tolist() == [[6, 4, 7], [1, 2, 3], [8, 0, 0]]


def test_as_many_models_as_have_trained_a_row_are_averaged():
    """The wanted mean, row by row in plain Python."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(50, 3, generator=generator)
    trained = torch.rand(4, 50, generator=generator) < 0.4
    tensors = [base + torch.randn(50, 3, generator=generator) * own[:, None] for own in trained]

    merged = count_mean(tensors, [1.0] * 4, base, count="rows")

    for row in range(50):
        own = [tensors[model][row] for model in range(4) if trained[model, row]]
        wanted = torch.stack(own).mean(dim=0) if own else base[row]
        torch.testing.assert_close(merged[row], wanted)


def test_rows_of_embeddings_by_a_rule():
    base = {"users.weight": torch.ones(2, 2), "head.weight": torch.zeros(1, 2)}
    first = {"users.weight": torch.tensor([[3.0, 3], [1, 1]]), "head.weight": torch.ones(1, 2)}
    rule = NameRule("users.*", method="count_mean", options={"count": "rows"})
    merged = merge_states([first, base], by_name(Recipe("linear", (1.0, 1.0)), [rule]), base)
    assert merged["users.weight"].tolist() == [[3, 3], [1, 1]]
    assert merged["head.weight"].tolist() == [[0.5, 0.5]]


def test_rows_need_a_base():
    method = method_of("count_mean", count_mean)
    with pytest.raises(InputError, match="needs a base"):
        method.check([1.0, 1.0], has_base=False, options={"count": "rows"})
    with pytest.raises(InputError, match="count must be one of"):
        method.check([1.0, 1.0], has_base=False, options={"count": "columns"})
