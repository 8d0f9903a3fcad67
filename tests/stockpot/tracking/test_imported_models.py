from __future__ import annotations

from stockpot.tracking.manifests import record_from_manifest


def test_run_of_an_imported_model_has_tags_for_its_file_and_the_files_digest() -> None:
    model = {
        "name": "imported-a",
        "kind": "ingredient",
        "key": "k",
        "digest": "d",
        "path": "checkpoints/ingredients/k.safetensors",
        "bytes": 8,
        "num_params": 2,
        "scores": {"val/accuracy": 0.5},
        "hyperparameters": {"lr": 0.1},
        "source": "runs/a.pt",
        "imported": {"digest": "s", "notes": ["prefix 'model.' removed from the names"]},
    }

    record = record_from_manifest(model, keys={"base": "b"})

    assert record.tags == {"stockpot.source": "runs/a.pt", "stockpot.source_digest": "s"}
    assert (record.params, record.inputs) == ({"lr": 0.1}, ("b",))
