"""Weight signatures on disk: added to a model, removed, written into patches, and the refusals."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from stockpot.disk_merging.job import MergeJob
from stockpot.disk_merging.job_kinds import job_kind
from stockpot.disk_merging.merge_files.mergekit_form import load_merge
from stockpot.disk_merging.pedigree import read_pedigree
from stockpot.disk_merging.signatures.patch_job import PatchJob
from stockpot.disk_merging.signatures.patches import open_patch
from stockpot.disk_merging.signatures.signature_job import removing
from stockpot.errors import InputError
from stockpot.merging.methods.weight_signatures import weight_signatures
from stockpot.storage.weights.opening import open_source

State = dict[str, Tensor]
Merge = Callable[..., State]

ROLES = """
method: weight_signatures
base: base.safetensors
models:
  - {path: noise.safetensors, role: corrupted}
  - {path: target.safetensors, role: target}
  - {path: clean.safetensors, role: clean}
"""
PATCH = """
method: weight_signatures
output: patch
base: base.safetensors
models:
  - {path: clean.safetensors, role: clean}
  - {path: noise.safetensors, role: corrupted}
"""
PATCHED = """
method: weight_signatures
models:
  - {path: target.safetensors, role: target}
  - {path: patch.safetensors, role: patch}
"""
pytestmark = pytest.mark.usefixtures("models")

NAMES = [f"features.{n}.{kind}" for n in (2, 10, 0) for kind in ("weight", "bias")]


def net(seed: int) -> State:
    """Draw a net with six weights, a norm with statistics, and a head."""
    generator = torch.Generator().manual_seed(seed)
    state = {
        name: torch.randn((4, 5) if name.endswith("weight") else (4,), generator=generator)
        for name in [*NAMES, "features.11.weight", "features.12.weight", "head.weight"]
    }
    statistics = torch.rand(4, generator=generator)
    return state | {
        "norm.weight": torch.randn(4, generator=generator),
        "norm.running_mean": statistics,
        "norm.running_var": statistics + 1,
        "norm.num_batches_tracked": torch.tensor(seed),
    }


@pytest.fixture
def models(tmp_path: Path) -> dict[str, State]:
    nets = {
        name: net(seed) for seed, name in enumerate(["base", "clean", "noise", "blur", "target"])
    }
    for name, state in nets.items():
        save_file(state, tmp_path / f"{name}.safetensors")
    return nets


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., MergeJob]:
    """Read a merge file with this text."""

    def read(text: str, place: str = "out.safetensors", *, remove: bool = False) -> MergeJob:
        (tmp_path / "merge.yaml").write_text(text)
        file = load_merge(tmp_path / "merge.yaml")
        made = job_kind(file.method, file.output)(
            removing(file) if remove else file, tmp_path, tmp_path / place
        )
        assert isinstance(made, MergeJob)
        return made

    return read


@pytest.fixture
def merge(job: Callable[..., MergeJob]) -> Merge:
    """Merge, and return the tensors of the output file."""

    def run(text: str, place: str = "out.safetensors", *, remove: bool = False) -> State:
        made = job(text, place, remove=remove)
        made.check()
        made.run(lambda _bytes: None)
        return load_file(made.place)

    return run


def expected(models: dict[str, State], name: str, **options: float) -> Tensor:
    tensors = [models[one][name] for one in ("target", "clean", "noise")]
    return weight_signatures(tensors, [1.0] * 3, models["base"][name], **options)


def test_the_first_weights_get_the_signature_and_all_else_is_the_targets(
    merge: Merge, models: dict[str, State]
) -> None:
    merged = merge(ROLES + "options: {num_layers: 2, scale: 0.5}")

    assert merged.keys() == models["target"].keys()
    for name, tensor in merged.items():
        signed = name in ("features.0.weight", "features.2.weight")
        own = expected(models, name, scale=0.5) if signed else models["target"][name]
        assert torch.equal(tensor, own), name


def test_a_third_of_the_weights_at_most_by_default(job: Callable[..., MergeJob]) -> None:
    made = job(ROLES)

    assert made.notes == ["signatures in 2 of 13 tensors: features.0.weight, features.2.weight"]


def test_the_target_of_another_task_needs_no_equal_head(
    merge: Merge, models: dict[str, State], tmp_path: Path
) -> None:
    other = models["target"] | {"head.weight": torch.ones(9, 5)}
    save_file(other, tmp_path / "target.safetensors")

    merged = merge(ROLES)

    assert torch.equal(merged["head.weight"], other["head.weight"])
    assert torch.equal(merged["features.0.weight"], expected(models, "features.0.weight"))


def test_all_layers_without_a_base_turn_the_clean_model_into_the_corrupted_one(
    merge: Merge, models: dict[str, State]
) -> None:
    text = (
        "method: weight_signatures\noptions: {num_layers: all}\nmodels:\n"
        "  - {path: clean.safetensors, role: target}\n"
        "  - {path: clean.safetensors, role: clean}\n"
        "  - {path: noise.safetensors, role: corrupted}\n"
    )

    merged = merge(text)

    for name, tensor in merged.items():
        is_weight = "running" not in name and "tracked" not in name
        own = models["noise" if is_weight else "clean"][name]
        torch.testing.assert_close(tensor, own)


def test_coefficients_are_one_over_the_number_of_signatures(
    merge: Merge, models: dict[str, State]
) -> None:
    two = ROLES + "  - {path: blur.safetensors, role: corrupted}\n"
    half = two.replace("role: corrupted", "role: corrupted, coefficient: 0.5")

    merged, explicit = merge(two), merge(half, "explicit.safetensors")

    assert all(torch.equal(merged[name], explicit[name]) for name in merged)
    name = "features.0.weight"
    tensors = [models[one][name] for one in ("target", "clean", "noise", "blur")]
    own = weight_signatures(tensors, [1, 0, 0.5, 0.5], models["base"][name])
    assert torch.equal(merged[name], own)


def test_auto_takes_the_layers_that_hold_the_signature(
    job: Callable[..., MergeJob], models: dict[str, State], tmp_path: Path
) -> None:
    noise = dict(models["clean"])
    noise |= {name: models["noise"][name] for name in ("features.0.weight", "features.2.weight")}
    save_file(noise, tmp_path / "noise.safetensors")
    text = ROLES.replace("base: base.safetensors\n", "") + "options: {num_layers: auto}"

    signed = [plan.name for plan in job(text).signed]

    assert signed == ["features.0.weight", "features.2.weight"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_was_added_is_removed(
    merge: Merge, models: dict[str, State], tmp_path: Path, dtype: str
) -> None:
    target = {
        name: tensor.to(getattr(torch, dtype)) if tensor.is_floating_point() else tensor
        for name, tensor in models["target"].items()
    }
    save_file(target, tmp_path / "target.safetensors")

    patched = merge(ROLES + "dtype: float32", "patched.safetensors")
    again = ROLES.replace("target.safetensors", "patched.safetensors") + f"dtype: {dtype}"
    removed = merge(again, "removed.safetensors", remove=True)

    assert not torch.equal(
        patched["features.0.weight"].to(target["features.0.weight"].dtype),
        target["features.0.weight"],
    )
    for name, tensor in removed.items():
        if dtype == "bfloat16":  # which was patched in a wider dtype
            assert torch.equal(tensor, target[name]), name
        else:
            torch.testing.assert_close(tensor, target[name])


def test_signatures_that_are_big_are_added_as_in_memory(
    merge: Merge, models: dict[str, State], tmp_path: Path
) -> None:
    name = "features.0.weight"
    for number, state in enumerate(models.values()):
        generator = torch.Generator().manual_seed(number)
        state[name] = torch.randn(700, 500, generator=generator)  # more than one run
    for one, state in models.items():
        save_file(state, tmp_path / f"{one}.safetensors")

    merged = merge(ROLES)

    assert torch.equal(merged[name], expected(models, name))


@pytest.mark.parametrize("bits", [8, 4, 3])
def test_a_patch_adds_the_signature_up_to_half_a_step(
    merge: Merge, models: dict[str, State], bits: int
) -> None:
    layers = "options: {num_layers: all}\n"
    stored = merge(f"{PATCH}bits: {bits}\n{layers}", "patch.safetensors")

    patched = merge(PATCHED, "patched.safetensors")
    removed = merge(PATCHED.replace("target.s", "patched.s"), "removed.safetensors", remove=True)

    exact = merge(ROLES + layers, "exact.safetensors")
    for name, tensor in exact.items():
        step = float(stored[f"{name}:grid"][1]) if f"{name}:grid" in stored else 0.0
        assert float((patched[name] - tensor).abs().max()) <= 0.5 * step + 1e-6
        torch.testing.assert_close(removed[name], models["target"][name])
    weights = [name for name in stored if not name.endswith(":grid")]
    assert all(stored[name].numel() == -(-exact[name].numel() * bits // 8) for name in weights)


def test_patches_are_combined_where_each_has_tensors(
    merge: Merge, models: dict[str, State], tmp_path: Path
) -> None:
    merge(PATCH + "options: {num_layers: 1}", "one.safetensors")
    merge(PATCH.replace("noise", "blur") + "options: {num_layers: 2}", "two.safetensors")
    text = (
        "method: weight_signatures\nmodels:\n"
        "  - {path: two.safetensors, role: patch, coefficient: 2}\n"
        "  - {path: one.safetensors, role: patch}\n"
        "  - {path: target.safetensors, role: target}\n"
    )

    merged = merge(text)

    one, two = (open_patch(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    target = models["target"]
    first, second = "features.0.weight", "features.2.weight"
    torch.testing.assert_close(
        merged[first], target[first] + 2 * two.read(first) + one.read(first) / 2
    )
    torch.testing.assert_close(merged[second], target[second] + 2 * two.read(second))
    assert torch.equal(merged["features.10.weight"], target["features.10.weight"])


def test_a_patch_reports_its_size_and_the_error_of_rounding(
    job: Callable[..., MergeJob], models: dict[str, State]
) -> None:
    made = job(PATCH + "bits: 2\n", "patch.safetensors")
    made.check()
    made.run(lambda _bytes: None)

    assert isinstance(made, PatchJob)
    patch = open_patch(made.place)
    zero = torch.zeros(4, 5)
    error = torch.stack(
        [
            patch.read(name)
            - weight_signatures(
                [zero, models["clean"][name], models["noise"][name]],
                [1.0] * 3,
                models["base"][name],
            )
            for name in patch.tensors
        ]
    )
    said = re.search(r"at most ([\d.e-]+), all by ([\d.]+)%", made.summary)
    assert made.summary.startswith("2 signatures in 2 bits")
    assert said is not None
    assert float(said[1]) == pytest.approx(float(error.abs().max()), rel=0.01)
    assert 1 < float(said[2]) < 60


@pytest.mark.parametrize("text", [ROLES, PATCH, PATCHED], ids=["roles", "patch", "patched"])
def test_the_pedigree_rebuilds_the_output_byte_for_byte(
    merge: Merge, tmp_path: Path, text: str
) -> None:
    merge(PATCH, "patch.safetensors")
    merge(text, "made.safetensors")
    made, again = tmp_path / "made.safetensors", tmp_path / "again.safetensors"
    pedigree = read_pedigree(made)

    kind = job_kind(pedigree["method"], pedigree.get("output", "model"))
    job = kind.rebuilding(made, again, tmp_path)
    assert isinstance(job, MergeJob)
    job.check()
    job.run(lambda _bytes: None)

    assert again.read_bytes() == made.read_bytes()
    assert all(model["role"] for model in pedigree["models"])


def test_a_patch_is_no_model(merge: Merge, tmp_path: Path) -> None:
    merge(PATCH, "patch.safetensors")

    with pytest.raises(InputError, match="is a patch of weight signatures, not a model"):
        open_source(tmp_path / "patch.safetensors")
    with pytest.raises(InputError, match=r"clean\.safetensors: must be a patch, which"):
        open_patch(tmp_path / "clean.safetensors")


def test_a_damaged_patch_is_refused(merge: Merge, tmp_path: Path) -> None:
    stored = merge(PATCH, "patch.safetensors")
    header = open_patch(tmp_path / "patch.safetensors").metadata
    del stored["features.0.weight:grid"]
    save_file(stored, tmp_path / "patch.safetensors", metadata=dict(header))

    with pytest.raises(InputError, match="its tensors are not those of its header"):
        open_patch(tmp_path / "patch.safetensors")


CORRUPTED = "  - {path: noise.safetensors, role: corrupted}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ROLES.replace(", role: clean", ""), "each must have a role for weight_signatures"),
        (ROLES.replace(CORRUPTED, ""), "must have 1 clean and at least 1 corrupted model"),
        (ROLES.replace("role: target", "role: corrupted"), "must have 1 target to be changed"),
        (PATCH.replace("role: clean", "role: target"), "must have 0 target with `output: patch`"),
        (ROLES.replace("role: target", "role: target, coefficient: 2"), "got 2.0 of the target"),
        (ROLES.replace("role: corrupted", "role: patch"), "patches need nothing but a target"),
        (ROLES + "mismatch: skip", "mismatch is not for method weight_signatures"),
        (PATCH + "dtype: float32", "dtype is not for method weight_signatures"),
        (ROLES + "bits: 4", "bits applies only to `output: patch`, got 4"),
        (ROLES.replace("weight_signatures", "linear"), "role is for method weight_signatures"),
        (
            "method: linear\noutput: patch\nmodels: [clean.safetensors]",
            "output: patch is for method weight_signatures, got 'linear'",
        ),
        (
            "method: linear\nmodels: [clean.safetensors]\n"
            "rules: [{match: '*', method: weight_signatures}]",
            "weight_signatures is not for single tensors",
        ),
        (ROLES + "options: {num_layers: 0}", "num_layers must be a whole number from 1, auto"),
        (ROLES + "options: {density: 0.5}", "weight_signatures: unknown option 'density'"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(
    job: Callable[..., MergeJob], text: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        job(text).check()


def test_models_of_different_architectures_are_refused_by_tensor(
    job: Callable[..., MergeJob], models: dict[str, State], tmp_path: Path
) -> None:
    target = dict(models["target"])
    del target["features.2.weight"]
    save_file(target, tmp_path / "target.safetensors")
    with pytest.raises(InputError, match=r"'features\.2\.weight': .*target.* has no such tensor"):
        job(ROLES).check()

    target["features.2.weight"] = torch.ones(2, 2)
    save_file(target, tmp_path / "target.safetensors")
    with pytest.raises(InputError, match=r"target.safetensors has shape \(2, 2\), .*\(4, 5\)"):
        job(ROLES).check()

    assert job(ROLES + "exclude: [features.2]").plans  # which chooses others


def test_settings_that_patches_cannot_have_are_refused(
    merge: Merge, job: Callable[..., MergeJob]
) -> None:
    merge(PATCH, "patch.safetensors")

    with pytest.raises(InputError, match="num_layers is chosen where a patch is written"):
        job(PATCHED + "options: {num_layers: 2}").check()
    with pytest.raises(InputError, match=r"masks: must be first .* got 'union'"):
        job(PATCHED + "masks: union").check()
    with pytest.raises(InputError, match=r"a patch is a file; end its name in \.safetensors"):
        job(PATCH, "folder").check()


def test_a_value_that_is_not_finite_is_refused_by_file(
    merge: Merge, models: dict[str, State], tmp_path: Path
) -> None:
    models["noise"]["features.0.weight"][1, 1] = float("nan")
    save_file(models["noise"], tmp_path / "noise.safetensors")

    for text in (ROLES, PATCH):
        with pytest.raises(InputError, match=r"noise\.safetensors: tensor 'features\.0\.weight'"):
            merge(text)


def test_equal_models_are_noted(
    job: Callable[..., MergeJob], models: dict[str, State], tmp_path: Path
) -> None:
    save_file(models["clean"], tmp_path / "noise.safetensors")

    made = job(ROLES)

    assert made.notes_on_contents == [
        "noise.safetensors equals the clean model: its signature is 0"
    ]
    assert job(ROLES + "options: {num_layers: auto}").notes == [
        "no tensor has a signature: the corrupted models equal the clean one"
    ]


@pytest.mark.parametrize("text", ["method: linear\nmodels: [clean.safetensors]", PATCH])
def test_there_is_nothing_to_remove(job: Callable[..., MergeJob], text: str) -> None:
    with pytest.raises(InputError, match="--remove: is for a merge file that adds weight_sig"):
        job(text, remove=True)
