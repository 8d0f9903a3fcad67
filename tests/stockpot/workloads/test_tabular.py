"""The tabular workload: what cells become, splits, shifts, and errors in tables."""

import json
import math
from pathlib import Path

import pytest
import torch

from stockpot.errors import InputError
from stockpot.workloads import build_workload, shift_names

HEADER = "age,town,plan,y\n"
TRAIN = HEADER + "1,Bonn,7,no\n3,Ulm,8,yes\n,Bonn,7,yes\n5,,8,no\n"
VAL = HEADER + "3,Bonn,8,no\n4,Kiel,9,yes\n"
TEST = HEADER + "2,Ulm,7,yes\n,Ulm,7,no\n"
DEVIATION = math.sqrt(8 / 3)  # of train's ages 1, 3 and 5


def write(folder: Path, **texts: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    return folder


def build(data: Path, seed=0, val_shifts=(), test_shifts=(), **options):
    options = {"data": str(data), "target": "y", "categorical": "plan"} | options
    return build_workload(
        "tabular", seed=seed, val_shifts=val_shifts, test_shifts=test_shifts, options=options
    )


def test_numbers_are_standardised_and_categories_one_hot_by_train(tmp_path):
    workload = build(write(tmp_path, train=TRAIN, val=VAL, test=TEST))

    train, val = workload.dataset("train").tensors, workload.dataset("val").tensors

    # age, age is missing, Bonn, Ulm, town is missing, plan 7, plan 8
    torch.testing.assert_close(
        train[0],
        torch.tensor(
            [
                [-2 / DEVIATION, 0, 1, 0, 0, 1, 0],
                [0, 0, 0, 1, 0, 0, 1],
                [0, 1, 1, 0, 0, 1, 0],
                [2 / DEVIATION, 0, 0, 0, 1, 0, 1],
            ]
        ),
    )
    assert train[1].tolist() == [0, 1, 1, 0]
    torch.testing.assert_close(
        val[0], torch.tensor([[0, 0, 1, 0, 0, 0, 1], [1 / DEVIATION, 0, 0, 0, 0, 0, 0]])
    )
    assert val[1].tolist() == [0, 1]
    assert torch.equal(workload.dataset("pretrain").tensors[0], train[0])


def test_missing_cells_and_unknown_categories_are_told(tmp_path):
    data = write(tmp_path, train=TRAIN, val=VAL, test=TEST)

    assert build(data).notes() == [
        f"{data}/train.csv: age: 1 of 4 missing, taken as train's mean; town: 1 of 4 missing, "
        "taken as a category",
        f"{data}/val.csv: town: 1 of 2 of no category of train; plan: 1 of 2 of no category of "
        "train",
        f"{data}/test.csv: age: 1 of 2 missing, taken as train's mean",
    ]


def test_features_are_those_named_and_a_constant_number_is_zero(tmp_path):
    train = "a,b,c,y\n1,5,9,0\n2,5,8,1\n3,5,7,0\n"
    data = write(tmp_path, train=train, val="c,b,y\n1,6,0\n2,5,1\n", test="c,b,y\n1,7,0\n3,5,1\n")

    features = build(data, features="b, c", categorical="").dataset("val").tensors[0]

    scale = math.sqrt(2 / 3)
    torch.testing.assert_close(features, torch.tensor([[1, -7 / scale], [0, -6 / scale]]))


def rows(number: int, classes: int = 2) -> str:
    return "x,y\n" + "".join(f"{row},{row % classes}\n" for row in range(number))


def test_one_file_is_split_by_the_seed_within_classes(tmp_path):
    data = write(tmp_path, all=rows(200)) / "all.csv"
    options = {"categorical": ""}

    first, same, other = (build(data, seed=seed, **options) for seed in (0, 0, 1))

    sizes = {split: len(first.dataset(split)) for split in ("pretrain", "train", "val", "test")}
    assert sizes == {"pretrain": 140, "train": 140, "val": 30, "test": 30}
    targets = first.dataset("val").tensors[1]
    assert targets.bincount().tolist() == [15, 15]
    assert torch.equal(first.dataset("val").tensors[0], same.dataset("val").tensors[0])
    assert not torch.equal(first.dataset("val").tensors[0], other.dataset("val").tensors[0])
    assert first.data_digest() == same.data_digest() != other.data_digest()


def test_a_shift_is_the_file_of_its_name_seen_as_train_is(tmp_path):
    data = write(tmp_path, train=TRAIN, val=VAL, test=TEST, later=HEADER + "7,Ulm,8,yes\n")

    workload = build(data, test_shifts=("later",))
    shift = workload.shifts()["later"]
    features, targets = shift.dataset().tensors

    assert shift_names("tabular") is None
    assert (shift.split, shift.is_copy) == ("test", False)
    torch.testing.assert_close(features, torch.tensor([[4 / DEVIATION, 0, 0, 1, 0, 0, 1]]))
    assert targets.tolist() == [1]


def test_a_shift_changes_its_own_digest_and_not_that_of_the_data(tmp_path):
    data = write(tmp_path, train=TRAIN, val=VAL, test=TEST, later=HEADER + "7,Ulm,8,yes\n")
    before = build(data, test_shifts=("later",))
    digest, of_shift = before.data_digest(), before.shifts()["later"].digest

    write(data, later=HEADER + "8,Ulm,8,yes\n")
    after = build(data, test_shifts=("later",))

    assert after.data_digest() == digest
    assert after.shifts()["later"].digest != of_shift


def test_formats_may_differ_between_splits(tmp_path):
    data = write(tmp_path, train=TRAIN, test=TEST)
    cells = [
        {"age": 3.0, "town": "Bonn", "plan": 8, "y": "no"},
        {"age": 4, "town": "Kiel", "plan": 9.0, "y": "yes"},
    ]
    (data / "val.jsonl").write_text("\n".join(map(json.dumps, cells)))
    csv = write(tmp_path / "csv", train=TRAIN, val=VAL, test=TEST)

    features = build(data).dataset("val").tensors[0]

    assert torch.equal(features, build(csv).dataset("val").tensors[0])


def test_regression_puts_out_the_unit_of_the_target_and_learns(tmp_path):
    line = "x,y\n" + "".join(f"{x},{1000 + 10 * x}\n" for x in range(100))
    data = write(tmp_path, all=line) / "all.csv"
    workload = build(data, task="regression", categorical="")
    batch = workload.dataset("train").tensors
    net = workload.build_model(torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)

    for _ in range(150):
        optimizer.zero_grad()
        workload.loss(workload.forward(net, batch), batch).mean().backward()
        optimizer.step()

    assert batch[1].dtype == torch.float32
    test = workload.dataset("test").tensors
    outputs = workload.forward(net.eval(), test).detach()
    metric = workload.metrics["minus_error"](outputs, test[1])
    assert metric.shape == test[1].shape
    assert -60 < metric.mean() < 0  # of targets from 1000 to 1990


def test_the_loss_of_regression_is_in_deviations_of_train(tmp_path):
    data = write(tmp_path, train="x,y\n1,0\n2,20\n", val="x,y\n3,1\n", test="x,y\n4,1\n")
    workload = build(data, task="regression", categorical="")

    loss = workload.loss(torch.tensor([5.0, 10.0]), (torch.empty(2, 1), torch.tensor([15.0, 10.0])))

    torch.testing.assert_close(loss, torch.tensor([1.0, 0.0]))  # the deviation is 10


def test_augmentation_moves_numbers_alone(tmp_path):
    workload = build(write(tmp_path, train=TRAIN, val=VAL, test=TEST))
    batch = workload.dataset("train").tensors

    assert workload.augment(batch, 0.0, torch.Generator()) is batch
    changed = workload.augment(batch, 1.0, torch.Generator().manual_seed(0))
    assert (changed[0] != batch[0]).any(dim=0).tolist() == [True] + [False] * 6
    assert torch.equal(changed[1], batch[1])


def test_a_batch_of_one_row_is_taken_in_training(tmp_path):
    workload = build(write(tmp_path, train=TRAIN, val=VAL, test=TEST))
    net = workload.build_model(torch.Generator().manual_seed(0)).train()
    one = tuple(tensor[:1] for tensor in workload.dataset("train").tensors)

    outputs = workload.forward(net, one)

    assert torch.equal(outputs, workload.forward(net.eval(), one))  # statistics are still 0 and 1


@pytest.mark.parametrize(
    ("files", "options", "words"),
    [
        ({}, {"target": "twn"}, "unknown target column in .*train.csv: 'twn'.*did you mean 'town'"),
        ({}, {"features": "age,twn"}, "must have a column 'twn', got .*did you mean 'town'"),
        ({}, {"features": "age,y"}, "features must not have the target, got 'y'"),
        ({}, {"features": "age,age"}, "features must name each column once, got 'age' twice"),
        ({}, {"categorical": "plann"}, "unknown column in the option categorical 'plann'"),
        ({}, {"task": "regresion"}, "unknown task of the tabular workload 'regresion'"),
        ({}, {"hidden": 0}, "hidden must be at least 1, got 0"),
        ({}, {"task": "regression"}, "val.csv:2: 'y' must be a finite number, got 'no'"),
        ({"val": "age,y\n1,no\n"}, {}, "val.csv: must have a column 'town'"),
        ({"val": HEADER + "3,Bonn,8,no\n3,B,8,maybe\n"}, {}, "val.csv:3: 'maybe', choose from"),
        ({"val": HEADER + "3,Bonn,8,no\n"}, {}, r"examples of each class, got none of \['yes'\]"),
        ({"val": HEADER + "3,Bonn,8,\n"}, {}, "val.csv:2: 'y' must have a value, got none"),
        ({"val": HEADER}, {}, "val.csv: must have rows"),
        ({"val": VAL + "x,Bonn,7,no\n"}, {}, "val.csv:4: 'age' must be a finite number, got 'x'"),
        ({"train": TRAIN + "x,Bonn,7,no\n"}, {}, "train.csv:6: 'age' .*empty the cell .* missing"),
        ({"train": HEADER + "1,,7,no\n2,,7,yes\n"}, {}, "'town' must have a value, got none in 2"),
        ({"train": HEADER + "1,b,7,a\n"}, {}, "'y' must have two classes or more, got 'a'"),
        ({"train": "y\na\nb\n"}, {}, "must have a column besides 'y', got none"),
        ({"val": VAL + "3,Ulm,8,yes\n"}, {}, "got 1: .*val.csv:4 is .*train.csv:3"),
        ({"test": TEST + "3,Ulm,8,yes\n"}, {}, "test must have no example of train"),
        ({"test": TEST + "3,Bonn,8,no\n"}, {}, "test must have no example of val"),
    ],
)
def test_errors_in_tables_and_options_are_named(tmp_path, files, options, words):
    data = write(tmp_path, **({"train": TRAIN, "val": VAL, "test": TEST} | files))

    with pytest.raises(InputError, match=words):
        build(data, **options).dataset("val")


def test_a_column_of_ever_new_texts_is_refused(tmp_path):
    texts = "name,y\n" + "".join(f"n{row},{row % 2}\n" for row in range(300))
    data = write(tmp_path, all=texts) / "all.csv"

    with pytest.raises(InputError, match="'name' must have 256 categories at most, got 300"):
        build(data, categorical="").dataset("train")


def test_a_shift_without_a_file_is_named_when_the_workload_is_built(tmp_path):
    data = write(tmp_path, train=TRAIN, val=VAL, test=TEST, later=TEST)

    with pytest.raises(InputError, match=r"unknown shift in .*'latr', choose from \['later'\]"):
        build(data, val_shifts=("latr",))


def test_pretrain_without_a_table_of_its_own_is_the_dataset_of_train(tmp_path):
    workload = build(write(tmp_path, train=TRAIN, val=VAL, test=TEST))

    assert workload.dataset("pretrain") is workload.dataset("train")
