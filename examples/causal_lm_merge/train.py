"""Train a small Llama on code and prose, then fine-tune one model on each of them.

    python train.py [SHARE]

Writes texts/: train, val and test of both, from Python's standard library; and models/: `empty`
(untrained, with a tokenizer), `base`, `code` and `prose`, as transformers saves models. SHARE
(default 1) is the fraction of each text that is used.
"""

from __future__ import annotations

import email
import shutil
import sys
import time
from pathlib import Path
from pydoc_data.topics import topics

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.storage.checkpoints import load_tensors, save_checkpoint
from stockpot.workloads import build_workload

HERE = Path(__file__).parent
TEXTS, MODELS = HERE / "texts", HERE / "models"
LENGTH = 128  # tokens per block
VOCABULARY = 1024
HOW = Hyperparameters(
    learning_rate=3e-3,
    weight_decay=0.01,
    epochs=2,
    batch_size=16,
    label_smoothing=0.0,
    mixup=0.0,
    augmentation=0.0,
    seed=0,
    schedule="cosine",
    clip_norm=1.0,
)


def main() -> None:
    """Write the texts and the models, in order."""
    share = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    shutil.rmtree(MODELS, ignore_errors=True)
    write_texts("code", modules(email), share)
    write_texts("prose", [topics[name] for name in sorted(topics)], share)
    join_texts()
    write_empty_model()
    train("base", start="empty", texts="both")
    for texts in ("code", "prose"):
        train(texts, start="base", texts=texts)


def modules(package: object) -> list[str]:
    """Return the source of each module of a package."""
    folder = Path(str(getattr(package, "__file__", ""))).parent
    return [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py"))]


def write_texts(name: str, texts: list[str], share: float) -> None:
    """Split texts: one in ten is val, one is test. Repeated paragraphs are dropped."""
    seen: set[str] = set()
    texts = [without(seen, text[: round(share * len(text))]) for text in texts]
    folder = TEXTS / name
    folder.mkdir(parents=True, exist_ok=True)
    parts: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for number, text in enumerate(texts):
        parts[{8: "val", 9: "test"}.get(number % 10, "train")].append(text)
    for split, chosen in parts.items():
        (folder / f"{split}.txt").write_text("\n\n".join(chosen), encoding="utf-8")


def without(seen: set[str], text: str) -> str:
    """Return a text without the paragraphs in `seen`, and add the others to `seen`."""
    paragraphs = dict.fromkeys(text.split("\n\n"))
    new = [paragraph for paragraph in paragraphs if paragraph not in seen]
    seen.update(new)
    return "\n\n".join(new)


def join_texts() -> None:
    """Concatenate code and prose."""
    (TEXTS / "both").mkdir(exist_ok=True)
    for split in ("train", "val", "test"):
        both = [(TEXTS / name / f"{split}.txt").read_text() for name in ("code", "prose")]
        (TEXTS / "both" / f"{split}.txt").write_text("\n\n".join(both), encoding="utf-8")


def write_empty_model() -> None:
    """Write an untrained Llama of 0.5 M parameters, and a tokenizer trained on train."""
    bytes_to_pairs = Tokenizer(models.BPE())
    bytes_to_pairs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_to_pairs.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bytes_to_pairs.train([str(TEXTS / "both" / "train.txt")], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytes_to_pairs, eos_token="<end>")
    tokenizer.save_pretrained(MODELS / "empty")
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(MODELS / "empty")


def train(name: str, *, start: str, texts: str) -> None:
    """Fine-tune a model on texts and save it as transformers does."""
    options = {"model": str(MODELS / start), "data": str(TEXTS / texts), "max_length": LENGTH}
    workload = build_workload("causal_lm", seed=0, options=options)
    num_tokens = HOW.epochs * workload.dataset("train").tensors[0].numel()
    weights = load_tensors(MODELS / start / "model.safetensors")
    began = time.perf_counter()
    trained = fine_tune(workload, weights, HOW, split="train")
    seconds = time.perf_counter() - began
    shutil.copytree(MODELS / "empty", MODELS / name)
    save_checkpoint(MODELS / name / "model.safetensors", trained, {"format": "pt"})
    print(f"{name}: {num_tokens / seconds:,.0f} tokens per second, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
