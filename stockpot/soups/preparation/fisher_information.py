"""Diagonal Fisher information of a model (Matena & Raffel 2022)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, float64, linalg

from stockpot.errors import InputError, unknown_name
from stockpot.merging.methods.fisher import Fisher
from stockpot.seeding import seeded_generator
from stockpot.soups.preparation.option_checks import check_whole_numbers
from stockpot.soups.preparation.squared_gradients import (
    TERMS,
    num_classes,
    num_terms,
    squared_gradients,
)
from stockpot.soups.preparation.train_examples import train_batches
from stockpot.workloads.example_gradients import ExampleGradients
from stockpot.workloads.passes import CalledModel, empty_model
from stockpot.workloads.protocol import Batch, Workload, logits_of

ESTIMATORS = ("auto", "exact", "sampled", "empirical")
_MOST_CLASSES = 64  # of `auto` for which each class gets a gradient


@dataclass(frozen=True, slots=True)
class FisherInformation:
    """Estimation of the diagonal Fisher information, by the workload's task.

    Attributes:
        estimator: the targets whose gradients are squared. `exact`: all of them, weighted by the
            model's probabilities; `sampled`: targets sampled from the model, an unbiased estimate;
            `empirical`: the true targets, which is cheaper but not the Fisher information;
            `auto`: `exact`, but `sampled` for more than 64 classes and for a language model.
        n: number of examples of train; all, if there are fewer.
        draws: number of sampled targets per example, for `sampled` only.

    Raises:
        ValueError: an option is out of its range.
    """

    uses_base: ClassVar[bool] = False

    estimator: str = "auto"
    n: int = 256
    draws: int = 1

    def __post_init__(self) -> None:
        if self.estimator not in ESTIMATORS:
            raise unknown_name("estimator", str(self.estimator), ESTIMATORS)
        check_whole_numbers(n=self.n, draws=self.draws)

    def check(self, workload: Workload) -> None:
        """Check that the estimator is one for the workload's task.

        Raises:
            InputError: it is `exact` for a language model, or `sampled` for one without logits.
        """
        if workload.task != "language_model":
            return
        if self.estimator == "exact":
            raise InputError(
                "fisher: estimator must be sampled or empirical for a language model, whose exact "
                "information takes a gradient for each token that could be next, got 'exact'"
            )
        if self.estimator != "empirical":
            try:
                logits_of(workload)
            except InputError as error:
                raise InputError(f"fisher: {error}; or set estimator: empirical") from error

    def compute(
        self,
        workload: Workload,
        weights: Mapping[str, Tensor],
        *,
        seed: int,
        device: str,
        base: Mapping[str, Tensor] | None = None,  # noqa: ARG002 (the protocol's)
    ) -> dict[str, Tensor]:
        """Estimate the information about each parameter of a model, in eval mode.

        Only `empirical` reads targets. Outputs of a regression, of any number, are means of a
        Gaussian of variance 1. The information of a language model is that per token.

        Args:
            workload: its task says what the outputs mean; for classification, they are logits
                (N, C) of C >= 2 classes.
            weights: the model's state dict.
            seed: seed of the choice of examples, and of sampled targets.
            device: where it is computed.
            base: unused.

        Returns:
            A tensor of non-negative numbers for each parameter, of its shape, float32, on the
            CPU. Buffers have none.

        Raises:
            InputError: the estimator or the outputs are not for the task.

        Source: the paper's diagonal Fisher, with the expectation over the model's own targets. The
        gradients are squared per example and target: the square of a batch's mean gradient, which
        some libraries use, is a different quantity.
        """
        self.check(workload)
        model = empty_model(workload, device)
        model.load_state_dict(weights)
        outputs, gradients = CalledModel(workload, model), ExampleGradients(workload, model)
        sums: dict[str, Tensor] = {}
        generator = seeded_generator(seed, "labels")
        count, terms_of = 0, None
        for batch in train_batches(workload, self.n, seed=seed, device=device):
            if terms_of is None:
                terms_of = TERMS[workload.task, self._estimator_of(workload, outputs, batch)]
            for terms in terms_of(outputs, batch, self.draws, generator):
                own = squared_gradients(gradients, terms)
                sums = {name: sums[name] + own[name] for name in own} if sums else own
            count += num_terms(batch, workload.task)
        return {name: (total / count).float().cpu() for name, total in sums.items()}

    def side_information(self, cached: Mapping[str, Tensor]) -> Mapping[str, Fisher]:
        """Return the diagonal for each parameter, with the norm over all parameters."""
        norms = (linalg.vector_norm(each, dtype=float64) for each in cached.values())
        norm = math.hypot(*map(float, norms))
        return {name: Fisher(tensor, norm) for name, tensor in cached.items()}

    def _estimator_of(self, workload: Workload, outputs: CalledModel, batch: Batch) -> str:
        if self.estimator != "auto":
            return self.estimator
        if workload.task == "language_model":
            return "sampled"
        has_many = workload.task == "classification" and num_classes(outputs, batch) > _MOST_CLASSES
        return "sampled" if has_many else "exact"
