"""What one fine-tuning run can be told; importing this module imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """The hyperparameters of one run; their ranges are checked where they are read.

    Attributes:
        learning_rate: AdamW's highest learning rate, above 0.
        weight_decay: AdamW's decoupled weight decay, at least 0.
        epochs: passes over the split, at least 1.
        batch_size: examples a step, at least 1; an epoch's last batch may be smaller.
        label_smoothing: share of each target spread over all classes, in [0, 1).
        mixup: parameter of the Beta distribution of mixup, at least 0; 0 is no mixup.
        augmentation: strength of the workload's augmentation, in [0, 1]; 0 is none.
        seed: fixes the order of examples, augmentation, mixup and any first weights.
    """

    learning_rate: float
    weight_decay: float
    epochs: int
    batch_size: int
    label_smoothing: float
    mixup: float
    augmentation: float
    seed: int
