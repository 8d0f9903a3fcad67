"""Adapters: what defines each kind, what is trained, and what is saved."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.linalg import matrix_rank, svd
from torch.nn.functional import relu
from torch.testing import assert_close
from torch.utils.data import TensorDataset

from stockpot.errors import InputError
from stockpot.ingredients.finetuning import input_directions
from stockpot.ingredients.finetuning.adapted_layers import layers_to_adapt
from stockpot.ingredients.finetuning.adapters import Adapter, insert_adapter
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.input_directions import main_directions
from stockpot.ingredients.finetuning.layer_decay import parameter_groups
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.workloads.batches import TokenDataset
from stockpot.workloads.digits import Digits
from stockpot.workloads.protocol import Batch

HOW = Hyperparameters(
    learning_rate=3e-3,
    weight_decay=0.01,
    epochs=1,
    batch_size=50,
    label_smoothing=0.0,
    mixup=0.0,
    augmentation=0.0,
    seed=7,
    adapter_rank=4,
    adapter_alpha=12.0,
)
KINDS = [
    {"adapter": "lora"},
    {"adapter": "dora"},
    {"adapter": "bone"},
    {"adapter": "miss"},
    {"adapter": "miss", "adapter_rank": 7},  # which divides neither number of inputs
    {"adapter": "lora", "adapter_init": "eva"},
    {"adapter": "dora", "adapter_init": "eva"},
]
every_kind = pytest.mark.parametrize(
    "kind", KINDS, ids=lambda kind: " ".join(map(str, kind.values()))
)
PREFIX = "base_model.model."


class Net(nn.Module):
    """A convolution, BatchNorm, two linear layers and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 8, 3, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.wide = nn.Linear(72, 20)
        self.narrow = nn.Linear(20, 16)
        self.head = nn.Linear(16, 10)

    def forward(self, images: Tensor) -> Tensor:
        pixels = relu(self.norm(self.convolution(images))).flatten(1)
        outputs: Tensor = self.head(relu(self.narrow(relu(self.wide(pixels)))))
        return outputs


class NetDigits(Digits):
    """The digits, for that model."""

    def build_model(self, generator: Generator) -> nn.Module:
        net = Net()
        for parameter in net.parameters():
            nn.init.normal_(parameter, std=0.2, generator=generator)
        return net


DIGITS = NetDigits(0, [], [])
DATA = DIGITS.dataset("pretrain")
IMAGES = DATA.tensors[0][:20]


def _how(**values: object) -> Hyperparameters:
    return replace(HOW, **values)  # type: ignore[arg-type]


def _net() -> nn.Module:
    return DIGITS.build_model(torch.Generator().manual_seed(3)).eval()


def _adapted(how: Hyperparameters, net: nn.Module | None = None) -> Adapter:
    with torch.random.fork_rng(devices=[]):
        return insert_adapter(DIGITS, net or _net(), DATA, how, "cpu")


def _moved(how: Hyperparameters) -> Adapter:
    """Insert an adapter with weights as if it had been trained."""
    adapter = _adapted(how)
    generator = torch.Generator().manual_seed(5)
    for name, parameter in adapter.model.named_parameters():
        if name in adapter.trained.trained:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return adapter


def _factors(adapter: Adapter, layer: str) -> tuple[Tensor, Tensor]:
    """Return A as (r, inputs) and B as (out, r), as they are saved."""
    tensors = adapter.saved(adapter.model.state_dict()).tensors
    a, b = (tensors[f"{PREFIX}{layer}.lora_{side}.weight"] for side in "AB")
    return a.flatten(1), b.flatten(1)


def _changes(adapter: Adapter) -> dict[str, Tensor]:
    """Return the changes by merging, of the tensors that it changes."""
    before, after = _net().state_dict(), adapter.merged(adapter.model.state_dict())
    return {
        name: tensor - before[name]
        for name, tensor in after.items()
        if not torch.equal(tensor, before[name])
    }


@every_kind
def test_an_adapter_starts_at_the_base_exactly(kind: dict[str, object]) -> None:
    net = _net()

    adapter = _adapted(_how(**kind))

    assert torch.equal(adapter.model(IMAGES), net(IMAGES))
    assert _changes(adapter) == {}
    assert adapter.merged(adapter.model.state_dict()).keys() == net.state_dict().keys()


@every_kind
def test_merged_weights_give_the_outputs_of_base_and_adapter(kind: dict[str, object]) -> None:
    adapter, net = _moved(_how(**kind)), _net()
    adapted = adapter.model(IMAGES)

    net.load_state_dict(adapter.merged(adapter.model.state_dict()))

    assert_close(net(IMAGES), adapted, rtol=1e-4, atol=1e-5)
    assert (adapted - _net()(IMAGES)).abs().max() > 0.05


@pytest.mark.parametrize("layer", ["convolution", "wide", "narrow"])
def test_lora_adds_alpha_over_r_times_the_product_of_its_factors(layer: str) -> None:
    adapter = _moved(_how(adapter="lora"))
    a, b = _factors(adapter, layer)

    change = _changes(adapter)[f"{layer}.weight"].flatten(1)

    assert a.shape[0] == b.shape[1] == 4
    assert_close(change, 12 / 4 * b @ a, rtol=0, atol=1e-5)


def test_lora_starts_with_b_of_zeros_and_another_a_for_each_seed() -> None:
    first, again, other = (
        _factors(_adapted(_how(adapter="lora", seed=s)), "wide") for s in (1, 1, 2)
    )

    assert torch.equal(first[1], torch.zeros(20, 4))
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("layer", ["convolution", "wide", "narrow"])
def test_dora_gives_rows_the_learnt_lengths_in_the_direction_of_lora(layer: str) -> None:
    adapter = _moved(_how(adapter="dora"))
    a, b = _factors(adapter, layer)
    state = adapter.model.state_dict()
    lengths = adapter.saved(state).tensors[f"{PREFIX}{layer}.lora_magnitude_vector"].flatten()
    before = _net().state_dict()[f"{layer}.weight"].flatten(1)

    merged = adapter.merged(state)[f"{layer}.weight"].flatten(1)

    assert_close(merged.norm(dim=1), lengths, rtol=1e-5, atol=1e-5)
    lora = before + 12 / 4 * b @ a
    expected = lengths.unsqueeze(1) * lora / lora.norm(dim=1, keepdim=True)
    assert_close(merged, expected, rtol=1e-4, atol=1e-5)


def test_dora_starts_with_the_lengths_of_the_base_s_rows() -> None:
    adapter = _adapted(_how(adapter="dora"))

    lengths = adapter.saved(adapter.model.state_dict()).tensors

    expected = _net().state_dict()["wide.weight"].norm(dim=1)
    assert_close(lengths[f"{PREFIX}wide.lora_magnitude_vector"], expected)


@pytest.mark.parametrize("rank", [1, 4, 7])
def test_miss_adds_one_block_to_every_group_of_inputs(rank: int) -> None:
    adapter = _moved(_how(adapter="miss", adapter_rank=rank))
    block = adapter.model.state_dict()["wide.miss_block.default"]

    change = _changes(adapter)

    assert block.shape == (rank, 20)  # r * out weights, whatever the inputs
    assert change.keys() == {"wide.weight", "narrow.weight"}
    expected = torch.stack([block[place % rank] for place in range(72)], dim=1)
    assert_close(change["wide.weight"], expected, rtol=0, atol=1e-6)
    assert matrix_rank(change["wide.weight"], rtol=1e-4) == rank
    a, b = _factors(adapter, "wide")
    assert_close(b @ a, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_bone_changes_each_block_of_w_by_w_b_plus_b(rank: int) -> None:
    adapter = _moved(_how(adapter="bone", adapter_rank=rank))
    blocks = adapter.model.state_dict()["wide.miss_block.default"]
    weight = _net().state_dict()["wide.weight"]

    change = _changes(adapter)

    assert blocks.shape == (20 // rank, rank, rank)  # out * r weights, whatever the inputs
    assert change.keys() == {"wide.weight", "narrow.weight"}
    for out, block in enumerate(blocks):
        rows = slice(out * rank, (out + 1) * rank)
        for column in range(0, 72, rank):
            own = weight[rows, column : column + rank]
            found = change["wide.weight"][rows, column : column + rank]
            assert_close(found, own @ block + block, rtol=0, atol=1e-5)


def test_the_weight_before_bone_can_be_computed_from_the_one_after() -> None:
    adapter = _moved(_how(adapter="bone"))
    blocks = adapter.model.state_dict()["wide.miss_block.default"]  # (5, 4, 4)

    merged = adapter.merged(adapter.model.state_dict())["wide.weight"]

    split = merged.view(5, 4, 18, 4).transpose(1, 2)
    before = (split - blocks.unsqueeze(1)) @ (torch.eye(4) + blocks).inverse().unsqueeze(1)
    expected = _net().state_dict()["wide.weight"].view(5, 4, 18, 4).transpose(1, 2)
    assert_close(before, expected, rtol=0, atol=1e-5)


def _inputs() -> dict[str, Tensor]:
    """Return the inputs of the linear layers on all of the split, by hand."""
    net, inputs = _net(), {}
    for name in ("wide", "narrow"):
        net.get_submodule(name).register_forward_pre_hook(
            lambda _, args, name=name: inputs.update({name: args[0]})
        )
    with torch.no_grad():
        net(DATA.tensors[0])
    return inputs


def test_eva_starts_in_the_top_right_singular_space_of_the_inputs() -> None:
    adapter = _adapted(_how(adapter="lora", adapter_init="eva"))
    starts = {name: _factors(adapter, name)[0] for name in ("wide", "narrow")}

    for name, inputs in _inputs().items():
        _, _, right = svd(inputs - inputs.mean(dim=0), full_matrices=False)
        top = right[: len(starts[name])]
        # All cosines of the angles between the two spaces are 1.
        cosines = svd(starts[name] @ top.T)[1]
        assert_close(cosines, torch.ones(len(top)), rtol=0, atol=0.01)
        assert_close(starts[name] @ starts[name].T, torch.eye(len(top)), rtol=0, atol=1e-4)


def test_eva_gives_the_ranks_to_the_directions_that_explain_most_and_keeps_the_scaling() -> None:
    adapter = _moved(_how(adapter="lora", adapter_init="eva", adapter_rank=5))
    ranks = {name: len(_factors(adapter, name)[0]) for name in ("wide", "narrow")}

    shares = []
    for name, inputs in _inputs().items():
        variances = svd(inputs - inputs.mean(dim=0))[1].square()
        shares += [(share, name) for share in (variances / variances.sum()).tolist()]
    best = [name for _, name in sorted(shares, reverse=True)[:10]]

    assert ranks == {name: best.count(name) for name in ("wide", "narrow")}
    assert ranks["wide"] != 5
    for name, rank in ranks.items():
        a, b = _factors(adapter, name)
        assert b.shape[1] == rank
        assert_close(_changes(adapter)[f"{name}.weight"], 12 / 5 * b @ a, rtol=0, atol=1e-5)


def test_eva_leaves_padding_out() -> None:
    class Texts(NetDigits):
        """Texts whose tokens are their own features; padded with outliers."""

        def forward(self, model: nn.Module, batch: Batch) -> Tensor:
            outputs: Tensor = model(batch[0])
            return outputs

    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(80, 5, 12, generator=generator) * torch.arange(12, 0, -1) ** 2
    mask = torch.ones(80, 5)
    mask[::2, 3:] = 0
    tokens[mask == 0] = 1000.0 * torch.arange(12)
    data = TokenDataset(tokens, mask, torch.zeros(80), lengths=mask.sum(dim=1).long())
    net = nn.Sequential(nn.Linear(12, 12), nn.Linear(12, 2))
    how = _how(adapter="lora", adapter_init="eva", adapter_rank=2)

    start = main_directions(Texts(0, [], []), net, data, "cpu", how, ["0"])["0"].float()

    real = tokens[mask == 1]
    _, _, right = svd(real - real.mean(dim=0), full_matrices=False)
    assert_close(svd(start @ right[:2].T)[1], torch.ones(2), rtol=0, atol=0.01)


class Unused(nn.Module):
    """A layer whose inputs are not contiguous, and one that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(8, 8)
        self.unused = nn.Linear(8, 8)
        self.head = nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.used(images[:, 0].transpose(1, 2)).mean(dim=1))
        return outputs


def test_eva_leaves_out_a_layer_that_is_never_called() -> None:
    how = _how(adapter="lora", adapter_init="eva", adapter_rank=2)

    adapter = _adapted(how, Unused())

    assert [name for name in adapter.trained.trained if "unused" in name] == []
    assert len(_factors(adapter, "used")[0]) == 2


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (TensorDataset(torch.ones(99, 1, 8, 8), torch.zeros(99)), "not converged after 5 batches"),
        (TensorDataset(*DATA[:15]), "EVA needs 4 times as many examples, got 15 for 4"),
    ],
)
def test_eva_of_inputs_without_directions_is_refused(
    monkeypatch: pytest.MonkeyPatch, data: TensorDataset, expected: str
) -> None:
    monkeypatch.setattr(input_directions, "_MOST_BATCHES", 5)
    how = _how(adapter="lora", adapter_init="eva")

    with pytest.raises(InputError, match=expected):
        insert_adapter(DIGITS, _net(), data, how, "cpu")


@every_kind
def test_all_but_the_adapted_weights_stay_as_they_were(kind: dict[str, object]) -> None:
    start = _net().state_dict()

    tuned = fine_tune(DIGITS, start, _how(**kind), split="pretrain")

    linear_only = kind["adapter"] in ("bone", "miss") or "adapter_init" in kind
    expected = {"wide.weight", "narrow.weight"} | (set() if linear_only else {"convolution.weight"})
    assert {name for name in start if not torch.equal(start[name], tuned[name])} == expected
    assert [*tuned] == [*start]


@pytest.mark.parametrize("average", ["ema", "swa", "lawa"])
@pytest.mark.parametrize("kind", [{"adapter": "lora"}, {"adapter": "miss"}], ids=["lora", "miss"])
def test_an_average_is_of_the_adapter_and_base_and_adapter_determine_the_result(
    kind: dict[str, object], average: str
) -> None:
    start, how = _net().state_dict(), _how(**kind, epochs=2, average=average, patience=1)

    tuned = fine_tune(DIGITS, start, how, split="pretrain")

    assert tuned.adapter is not None
    scaling = tuned.adapter.config["lora_alpha"] / tuned.adapter.config["r"]
    for layer in ("wide", "narrow"):
        a, b = (tuned.adapter.tensors[f"{PREFIX}{layer}.lora_{side}.weight"] for side in "AB")
        expected = start[f"{layer}.weight"] + scaling * b @ a
        assert_close(tuned[f"{layer}.weight"], expected, rtol=0, atol=1e-6)
    assert torch.equal(tuned["norm.running_var"], start["norm.running_var"])


def test_the_saved_adapter_is_that_of_the_best_epoch() -> None:
    start, kept = _net().state_dict(), {}
    how = _how(adapter="lora", learning_rate=0.5, epochs=4, patience=4)

    best = fine_tune(
        DIGITS,
        start,
        how,
        split="pretrain",
        on_epoch=lambda epoch, weights: kept.update({epoch: weights()}),
    )

    epoch = next(
        e for e, one in kept.items() if torch.equal(one["wide.weight"], best["wide.weight"])
    )
    assert epoch < max(kept)
    assert best.adapter is not None
    for name, tensor in kept[epoch].adapter.tensors.items():
        assert torch.equal(best.adapter.tensors[name], tensor)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, ["convolution", "wide", "narrow"]),
        ({"adapter": "bone"}, ["wide", "narrow"]),
        ({"adapter": "miss"}, ["wide", "narrow"]),
        ({"adapter": "tucker"}, ["convolution", "wide", "narrow"]),
        ({"frozen": "wide.*"}, ["convolution", "narrow"]),
        ({"head": "narrow.*"}, ["convolution", "wide", "head"]),
        ({"adapter_targets": "w* head"}, ["wide", "head"]),
    ],
)
def test_the_layers_with_an_adapter_are_all_but_the_head_or_those_named(
    values: dict[str, object], expected: list[str]
) -> None:
    assert [*layers_to_adapt(_net(), _how(**({"adapter": "lora"} | values)))] == expected


def test_weights_that_are_read_or_tied_are_left_alone() -> None:
    net = nn.Module()
    net.embedding = nn.Embedding(30, 8)
    net.attention = nn.MultiheadAttention(8, 2)
    net.grouped = nn.Conv1d(8, 8, 3, groups=2)
    net.layer = nn.Linear(8, 8)
    net.norm = nn.LayerNorm(8)
    net.output = nn.Linear(8, 30, bias=False)
    net.output.weight = net.embedding.weight

    assert [*layers_to_adapt(net, _how(adapter="lora"))] == ["layer"]


def test_both_factors_of_a_lone_adapted_layer_have_one_learning_rate() -> None:
    adapter = _adapted(_how(adapter="lora", adapter_targets="wide"))
    adapter.trained.begin_epoch(adapter.model, 0)

    groups = parameter_groups(adapter.model, 0.5)

    assert [(len(group["params"]), group["lr_scale"]) for group in groups] == [(2, 1.0)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"adapter_targets": "wide attention.*"},
            r"adapter_targets: .* got 'attention.\*'; some of the",
        ),
        ({"adapter_targets": "convolution", "adapter": "bone"}, "got 'convolution'"),
        ({"frozen": "[cwn]*"}, "'lora' needs a layer that supports it"),
        ({"ghost_batch": 32}, "ghost_batch: must be 0 with an adapter"),
        ({"probe_epochs": 1}, "trains no head, got probe_epochs 1"),
        ({"adapter": "bone", "adapter_init": "eva"}, "adapter_init: must be 'default' for bone"),
        ({"adapter": "miss", "adapter_init": "eva"}, "adapter_init: must be 'default' for miss"),
        ({"adapter": "miss", "adapter_rank": 21}, "at most 20 for layer 'narrow', .* got 21"),
        (
            {"adapter": "bone", "adapter_rank": 8},
            "must divide .* got 8 for layer 'wide' of 72 inputs and 20 outputs; take 4",
        ),
        ({"adapter_init": "eva", "adapter_rank": 6}, "at most 5 for layer 'narrow', .* got 6"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(values: dict[str, object], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        fine_tune(DIGITS, None, _how(**({"adapter": "lora"} | values)), split="pretrain")


def test_eva_of_a_layer_with_too_few_inputs_for_any_rank_says_so() -> None:
    net = nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 2))
    how = _how(adapter="lora", adapter_init="eva", adapter_rank=1)

    with pytest.raises(InputError, match="eva needs layers of at least 4 inputs, got layer '0' of"):
        layers_to_adapt(net, how)


def test_without_peft_the_extra_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)  # what makes an import fail

    with pytest.raises(InputError, match=r"pip install 'stockpot\[text\]'"):
        _adapted(_how(adapter="lora"))
