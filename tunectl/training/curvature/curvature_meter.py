"""Measures the curvature of a model's loss at a step, with what the next measurement begins with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tunectl.core.curvature_settings import CurvatureSettings
from tunectl.core.user_code import is_code
from tunectl.training.curvature.critical_rate import critical_learning_rate
from tunectl.training.curvature.eigenvalue_searches import EigenvalueSearches, Estimate
from tunectl.training.curvature.gradient_measures import directional_sharpness, gradient_quotient
from tunectl.training.curvature.hessian_products import HessianProducts
from tunectl.training.curvature.measured_loss import Examples, MeasuredLoss, NotMeasured
from tunectl.training.curvature.measured_model import measured_model
from tunectl.training.curvature.optimizer_measures import NextStep, OptimizerMeasures
from tunectl.training.optimizers import trainable_parameters
from tunectl.workloads.workload import Workload


class CurvatureMeter:
    """Measures the curvature of one model's loss by the settings of a study.

    The starts of searches, and the number and the division of the examples, are a part of the trial's state: with them,
    a trial that was killed and resumed measures the same. `reason` is why the last measurement has only a part of its
    values, "" where it has all.
    """

    def __init__(
        self,
        settings: CurvatureSettings,
        workload: Workload,
        examples: Examples,
        *,
        device: torch.device,
        seed: int,
    ) -> None:
        self.settings = settings
        self._workload, self._examples, self._device = workload, examples, device
        self._parameters = trainable_parameters(workload.model)
        self._seed = seed
        self.searches = EigenvalueSearches(settings, seed)
        self.reason = ""
        self._critical_rate: float | None = None

    def state(self) -> dict[str, Any]:
        """What the next measurement depends on, as plain numbers, dicts and tensors on the CPU."""
        examples = self._examples.state()
        return {"searches": self.searches.state(), "critical_rate": self._critical_rate, "examples": examples}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` gave."""
        self.searches.load_state(state["searches"])
        self._critical_rate = state["critical_rate"]
        self._examples.load_state(state["examples"])

    def measure(self, step: int, following: NextStep | None = None) -> dict[str, float]:
        """The metrics of measurement_kinds.CURVATURE, by name, of the weights after `step` updates.

        What the settings do not ask for is absent, and what could not be measured: all but the loss where the loss or
        its gradient is not finite, and what depends on the optimizer where `following` is None. Afterwards the model
        and all random generators are as before. Raises NotMeasured where nothing can be measured.
        """
        self.reason = ""
        with measured_model(self._workload.model, self.settings.mode, self._device) as model:
            loss = MeasuredLoss(self._workload, self._examples, model)
            products = HessianProducts(loss, self._parameters)
            gradient = products.gradient
            found = {"loss": products.loss, "gradient_norm": float(torch.linalg.vector_norm(gradient))}
            if torch.isfinite(products.gradient_product).all() and math.isfinite(products.loss):
                found |= self._eigenvalues(products, step, following)
                found |= self._along_the_gradient(products)
            products.release()
            if following is not None:
                found["learning_rate"] = following.learning_rate
                found |= self._critical(loss, products, following)
            sizes = {"examples": float(loss.examples.count), "chunks": float(loss.examples.chunks)}
            return found | sizes | {"random_state": float(loss.draws_random_numbers)}

    def lambda_1_alone(self, iteration: int) -> dict[str, float]:
        """λ1 and whether it converged, by a search that no other one depends on; {} where it is not to be measured, or
        the loss is not finite. For the weights at an iteration before training. Raises NotMeasured.
        """
        if "lambda_1" not in self.settings.measures:
            return {}
        with measured_model(self._workload.model, self.settings.mode, self._device) as model:
            products = HessianProducts(MeasuredLoss(self._workload, self._examples, model), self._parameters)
            if not torch.isfinite(products.gradient_product).all():
                return {}
            searches = EigenvalueSearches(self.settings, self._seed)
            found = searches.run("before_training", products.product, products, iteration)
            products.release()
        return {} if found is None else {"lambda_1": found.value, "converged": float(found.converged)}

    def _eigenvalues(self, products: HessianProducts, step: int, following: NextStep | None) -> dict[str, float]:
        """The largest eigenvalues, the smallest one, and those that the optimizer's bound is about."""
        measures, searches = self.settings.measures, self.searches
        found: dict[str, float] = {}
        plain: Estimate | None = None
        if "lambda_1" in measures:
            plain = searches.run("lambda_1", products.product, products, step, count=self.settings.eigenvalues)
        if plain is not None:
            found |= plain.metrics("lambda_1") | {"cold": float(plain.is_cold)}
            found |= {f"lambda_{rank}": value for rank, value in enumerate(plain.further, start=2)}
        if "lambda_min" in measures:
            negative = searches.run("lambda_min", lambda vector: -products.product(vector), products, step)
            found |= {} if negative is None else negative.opposite().metrics("lambda_min")
        if following is not None:
            with_preconditioner, tolerance = "preconditioned" in measures, self.settings.tolerance
            found |= OptimizerMeasures(
                following, products, self._parameters, searches, tolerance, plain, with_preconditioner
            ).metrics()
        return found

    def _along_the_gradient(self, products: HessianProducts) -> dict[str, float]:
        found: dict[str, float] = {}
        if "directional" in self.settings.measures:
            sharpness = directional_sharpness(products.gradient, products.gradient_product)
            found |= {} if sharpness is None else {"directional": sharpness}
        if "gradient_quotient" in self.settings.measures:
            found["gradient_quotient"] = float(gradient_quotient(products.gradient, products.gradient_product))
        return found

    def _critical(self, loss: MeasuredLoss, products: HessianProducts, following: NextStep) -> dict[str, float]:
        """The critical learning rate, by forward passes over the measured examples."""
        # The step of an optimizer of the study's own may change more than a copy of its state, and so the training.
        if "critical_learning_rate" not in self.settings.measures or is_code(following.configuration.optimizer):
            return {}
        try:
            found = critical_learning_rate(
                lambda: torch.tensor(loss.mean(), dtype=torch.float64),
                following.optimizer,
                self._parameters,
                self._by_parameter(products),
                configuration=following.configuration,
                learning_rate=following.learning_rate,
                start=self._critical_rate,
                at_zero=products.loss,
            )
        except NotMeasured as error:
            self.reason = f"the critical learning rate: {error}"
            return {}
        if found is None:
            return {}
        # A search that begins at a limit takes many passes.
        self._critical_rate = found.learning_rate if found.limit == 0 else None
        metrics = {
            "critical_learning_rate": found.learning_rate,
            "critical_limit": float(found.limit),
            "critical_passes": float(found.passes),
        }
        return metrics | ({} if found.multiple is None else {"critical_multiple": found.multiple})

    def _by_parameter(self, products: HessianProducts) -> list[Tensor | None]:
        """The gradient in the shapes of the parameters; None for a parameter that the loss does not use."""
        pieces = torch.split(products.gradient, [parameter.numel() for parameter in self._parameters])
        return [
            piece.view(parameter.shape) if reached else None
            for piece, parameter, reached in zip(pieces, self._parameters, products.reached, strict=True)
        ]
