from __future__ import annotations

from pathlib import Path

import pytest
import torch
from adapter_folders import factors, randn, save_adapter
from importing_nets import NormedToy, State, TiedToy, make, state_of
from quantized_folders import codes, scales, write_quantized
from safetensors.torch import save_file
from toy_workload import Toy

from stockpot.errors import InputError
from stockpot.ingredients.importing.fitting import fit, fit_by_any_names, read_weights
from stockpot.ingredients.importing.model_form import ModelForm, form_of
from stockpot.storage.weights.opening import open_source


@pytest.fixture
def form() -> ModelForm:
    return form_of(make(NormedToy))


@pytest.fixture
def state() -> State:
    return state_of(make(NormedToy))


def saved(folder: Path, state: State) -> Path:
    path = folder / "model.safetensors"
    save_file(state, path)
    return path


def read(path: Path, form: ModelForm) -> tuple[State, tuple[str, ...]]:
    source = open_source(path, form.as_source())
    fitted = fit(source, form)
    return read_weights(source, form, fitted), fitted.notes


def test_a_checkpoint_of_the_model_is_read_as_it_is(
    tmp_path: Path, form: ModelForm, state: State
) -> None:
    weights, notes = read(saved(tmp_path, state), form)

    assert weights.keys() == state.keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in state.items())
    assert notes == ()


@pytest.mark.parametrize("prefix", ["model.", "module.", "_orig_mod.", "net.body_and_head."])
def test_a_prefix_of_all_names_is_removed_and_reported(
    tmp_path: Path, form: ModelForm, state: State, prefix: str
) -> None:
    path = saved(tmp_path, {prefix + name: tensor for name, tensor in state.items()})

    weights, notes = read(path, form)

    assert all(torch.equal(weights[name], tensor) for name, tensor in state.items())
    assert notes == (f"prefix {prefix!r} removed from the names",)


def test_names_from_inside_a_wrapper_are_converted_and_reported(
    tmp_path: Path, form: ModelForm, state: State
) -> None:
    compiled = {name.replace("body.", "body._orig_mod."): t for name, t in state.items()}

    source, fitted = fit_by_any_names(open_source(saved(tmp_path, compiled)), form)

    weights = read_weights(source, form, fitted)
    assert all(torch.equal(weights[name], tensor) for name, tensor in state.items())
    assert "7 tensors are named as in the workload's model: 'body." in fitted.notes[0]


def test_a_lightning_checkpoint_is_its_state_dict(
    tmp_path: Path, form: ModelForm, state: State
) -> None:
    path = tmp_path / "epoch=3.ckpt"
    named = {f"model.{name}": tensor for name, tensor in state.items()}
    optimizer = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}
    content = {"epoch": 3, "state_dict": named, "optimizer_states": [optimizer]}
    torch.save(content | {"hyper_parameters": {"lr": 0.1}, "callbacks": {}}, path)

    weights, notes = read(path, form)

    assert all(torch.equal(weights[name], tensor) for name, tensor in state.items())
    assert notes == ("prefix 'model.' removed from the names",)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"head.weight": torch.zeros(5, 3)},
            "another head: tensor 'head.weight' has shape (5, 3), the model has (2, 3)",
        ),
        (
            {"body.0.bias": torch.zeros(4)},
            "tensor 'body.0.bias' has shape (4,), the model has (3,)",
        ),
        (
            {"head.bias": torch.zeros(2, dtype=torch.int64)},
            "tensor 'head.bias' is torch.int64, the model has torch.float32",
        ),
        ({"head.bias": None}, "lacks 1 of 9 tensors of the model: 'head.bias'"),
        (
            {"body.1.running_mean": None, "body.1.num_batches_tracked": None},
            "lacks BatchNorm statistics: 'body.1.running_mean', 'body.1.num_batches_tracked'; "
            "save the whole state dict, including buffers",
        ),
        (
            {"criterion.weight": torch.ones(2)},
            "has tensors that the model lacks: 'criterion.weight'",
        ),
        (
            {"head.bias": None, "classifier.bias": torch.ones(2)},
            "lacks 1 of 9 tensors of the model: 'head.bias'; "
            "has tensors that the model lacks: 'classifier.bias'",
        ),
    ],
)
@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_foreign_checkpoint_is_refused_with_all_reasons(
    tmp_path: Path,
    form: ModelForm,
    state: State,
    change: dict[str, torch.Tensor | None],
    reason: str,
    prefix: str,
) -> None:
    changed = {name: tensor for name, tensor in (state | change).items() if tensor is not None}
    path = saved(tmp_path, {prefix + name: tensor for name, tensor in changed.items()})

    with pytest.raises(InputError) as caught:
        fit(open_source(path), form)

    told = str(caught.value).replace(f"'{prefix or '-'}", "'")  # extra ones by their own names
    assert told == f"{path}: {reason}"


def test_long_lists_of_names_are_shortened(tmp_path: Path, form: ModelForm) -> None:
    path = saved(tmp_path, {f"other.{number}": torch.ones(1) for number in range(5)})

    with pytest.raises(InputError, match=r"'other.0', 'other.1', 'other.2' and 2 more$"):
        fit(open_source(path), form)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused(
    tmp_path: Path, form: ModelForm, state: State, value: float
) -> None:
    state["head.weight"][1, 2] = value

    with pytest.raises(InputError, match=r"tensor 'head.weight': 1 of 6 values are NaN or infinit"):
        read(saved(tmp_path, state), form)


def test_weights_are_converted_to_the_dtypes_of_the_model_and_that_is_reported(
    tmp_path: Path, form: ModelForm, state: State
) -> None:
    half = {n: t.half() if t.is_floating_point() else t.int() for n, t in state.items()}

    weights, notes = read(saved(tmp_path, half), form)

    assert {name: tensor.dtype for name, tensor in weights.items()} == {
        name: tensor.dtype for name, tensor in state.items()
    }
    assert torch.equal(weights["head.weight"], half["head.weight"].float())
    assert notes == (
        "torch.float16 converted to torch.float32, the model's dtype",
        "torch.int32 converted to torch.int64, the model's dtype",
    )


def test_a_value_beyond_the_dtype_of_the_model_is_refused(
    tmp_path: Path, form: ModelForm, state: State
) -> None:
    path = saved(tmp_path, state | {"head.bias": torch.full((2,), 1e300, dtype=torch.float64)})

    with pytest.raises(InputError, match=r"2 of 2 values are NaN or infinite in torch.float32"):
        read(path, form)


@pytest.mark.parametrize("kept", ["table.weight", "head.weight"])
def test_a_tied_tensor_may_be_stored_once(tmp_path: Path, kept: str) -> None:
    form = form_of(make(TiedToy))
    table = randn(4, 3)

    weights, _ = read(saved(tmp_path, {kept: table}), form)

    assert dict(form.tied) == {"head.weight": "table.weight"}
    assert torch.equal(weights["table.weight"], table)
    assert torch.equal(weights["head.weight"], table)


def test_tied_tensors_that_differ_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, {"table.weight": randn(4, 3), "head.weight": randn(4, 3, seed=1)})

    with pytest.raises(InputError, match=r"'head.weight' and 'table.weight' differ, the model tie"):
        read(path, form_of(make(TiedToy)))


def test_an_adapter_is_applied_to_the_base(tmp_path: Path, form: ModelForm, state: State) -> None:
    a, b = randn(2, 3), randn(2, 2, seed=1)
    adapter = save_adapter(tmp_path / "lora", factors("head", a, b))
    fitted = fit(open_source(adapter, form.as_source()), form)

    source = open_source(adapter, open_source(saved(tmp_path, state)))
    weights = read_weights(source, form, fitted)

    expected = state | {"head.weight": state["head.weight"] + 2 * b @ a}  # alpha / r = 4 / 2
    torch.testing.assert_close(weights, expected)


def test_a_quantised_checkpoint_is_read_as_floats(tmp_path: Path) -> None:
    form = form_of(make(TiedToy))
    held = {"table.weight": codes(4, 3), "table.weight_scale": scales(4, 1)}

    weights, notes = read(write_quantized(tmp_path / "m", held), form)

    assert torch.equal(weights["head.weight"], held["table.weight"].float() * scales(4, 1))
    assert "weights dequantised from FP8: 1, codes times their scales, one per row" in notes


def test_the_form_has_names_shapes_and_dtypes_whether_built_with_memory_or_without() -> None:
    without, with_memory = form_of(make(TiedToy)), form_of(make(Toy))  # Toy's code needs values

    assert {name: tensor.shape for name, tensor in without.tensors.items()} == {
        "table.weight": (4, 3),
        "head.weight": (4, 3),
    }
    assert with_memory.tensors["weight"].shape == (2, 2)
    assert with_memory.digest == form_of(make(Toy)).digest != without.digest
