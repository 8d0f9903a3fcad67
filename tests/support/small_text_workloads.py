"""Text workloads on a few sentences, with nets that are made in a test."""

from __future__ import annotations

from pathlib import Path

from tiny_transformers import write_bert, write_csv, write_llama

from stockpot.workloads.causal_lm import CausalLanguageModel
from stockpot.workloads.spec import WorkloadSpec
from stockpot.workloads.text_classification import TextClassification

_GOOD = ["the film is good", "it is a very good book", "a good film", "it is fine"]
_BAD = ["the film is bad", "it is a very long bad book", "a poor film", "it is bad"]


def bert_spec(folder: Path) -> WorkloadSpec:
    """Describe a classification of sentences by a tiny BERT."""
    options = {"model": str(write_bert(folder / "bert")), "data": str(_write_data(folder))}
    return WorkloadSpec("text_classification", seed=0, options=tuple(sorted(options.items())))


def llama_spec(folder: Path) -> WorkloadSpec:
    """Describe a language model of sentences, a tiny Llama."""
    options = {"model": str(write_llama(folder / "llama")), "data": str(_write_data(folder))}
    return WorkloadSpec("causal_lm", seed=0, options=tuple(sorted(options.items())))


def bert_workload(folder: Path) -> TextClassification:
    """Build the classification of sentences."""
    built = bert_spec(folder).build()
    assert isinstance(built, TextClassification)
    return built


def llama_workload(folder: Path) -> CausalLanguageModel:
    """Build the language model."""
    built = llama_spec(folder).build()
    assert isinstance(built, CausalLanguageModel)
    return built


def _write_data(folder: Path) -> Path:
    rows = [
        {"text": f"{start}{text}", "label": label}
        for label, texts in (("+", _GOOD), ("-", _BAD))
        for text in texts
        for start in ("", "very ", "the book ")
    ]
    for split, part in (("train", rows[::2]), ("val", rows[1::4]), ("test", rows[3::4])):
        write_csv(folder / "data" / f"{split}.csv", part)
    return folder / "data"
