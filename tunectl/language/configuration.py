"""The training configuration: every field that a hyperparameter may set, its bounds, and where it is used."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from tunectl.core import typed_fields
from tunectl.core.records import Scalar
from tunectl.core.user_code import CodeName, UsedCode, is_code
from tunectl.language import piecewise
from tunectl.language.optimizer_traits import OPTIMIZERS, OptimizerName, is_optimizer, optimizers_with, traits

ScheduleName = Literal["constant", "linear", "cosine", "inverse_sqrt", "step", "wsd", "piecewise"]
RangeTest = Literal["range_test"]
"""The schedule of a learning-rate range test, which a study cannot set."""

WarmupKind = Literal["prepend", "within"]
WeightDecayScope = Literal["all", "matrices"]
Precision = Literal["float32", "bfloat16", "float16"]
ActivationCheckpointing = Literal["none", "blocks"]
InitialisationName = Literal["none", "metainit", "gradinit"]
CooldownShape = Literal["linear", "one_minus_sqrt"]
PiecewiseShape = Literal["constant", "linear"]
GradClip = Literal["none", "adaptive", "update"]
MuonScale = Literal["match_adamw", "original"]


_INITIALISES = ("metainit", "gradinit")


@dataclass(frozen=True, slots=True)
class FieldRule:
    """Which values one field of the training configuration may have, and when the field is used.

    A number is between `low` and `high`, including them unless `low_open` and `high_open`; text is one of `choices`,
    or of the form that `text_form` reads, which raises ValueError with what it expected; or, where `code` has its form,
    the name of code (see core.user_code).
    The field is used only where every name in `read_when` has one of the given values (a field of an optimizer only
    with that optimizer), and only with the field that it `needs`.
    """

    value_type: type
    low: float | None = None
    high: float | None = None
    low_open: bool = False
    high_open: bool = False
    choices: tuple[str, ...] = ()
    code: str = ""
    read_when: Mapping[str, tuple[str, ...]] | None = None
    wants_log_scale: bool = False
    needs: str | None = None
    text_form: Callable[[str], object] | None = None

    def expectation(self) -> str:
        """The values that it may have, in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices) + (f", or {self.code}" if self.code else "")
        if self.text_form is not None:
            return piecewise.EXPECTED
        noun = "a whole number" if self.value_type is int else "a number"
        bounds = []
        if self.low is not None:
            bounds.append(f"{'above' if self.low_open else 'of at least'} {self.low:g}")
        if self.high is not None:
            bounds.append(f"{'below' if self.high_open else 'at most'} {self.high:g}")
        return " ".join([noun, " and ".join(bounds)]).strip()

    def accepts(self, value: Scalar) -> bool:
        """Whether the field may have this value."""
        if self.value_type is str:
            is_code_name = self.code != "" and is_code(value)
            return isinstance(value, str) and (value in self.choices or self._has_form(value) or is_code_name)
        if isinstance(value, (bool, str)) or (self.value_type is int and not isinstance(value, int)):
            return False
        above = self.low is None or (value > self.low if self.low_open else value >= self.low)
        below = self.high is None or (value < self.high if self.high_open else value <= self.high)
        return above and below

    def _has_form(self, value: str) -> bool:
        if self.text_form is None:
            return False
        try:
            self.text_form(value)
        except ValueError:
            return False
        return True


FIELDS: dict[str, FieldRule] = {
    "batch_size": FieldRule(int, 1),
    "eval_batch_size": FieldRule(int, 1),
    "optimizer": FieldRule(str, choices=OPTIMIZERS, code="module:Name"),
    "learning_rate": FieldRule(float, 0, low_open=True, wants_log_scale=True),
    "momentum": FieldRule(float, 0, 1, high_open=True, read_when={"optimizer": optimizers_with("momentum")}),
    "rho": FieldRule(float, 0, 1, high_open=True, read_when={"optimizer": optimizers_with("rho")}),
    "beta1": FieldRule(float, 0, 1, high_open=True, read_when={"optimizer": optimizers_with("beta1")}),
    "beta2": FieldRule(float, 0, 1, high_open=True, read_when={"optimizer": optimizers_with("beta2")}),
    "epsilon": FieldRule(float, 0, read_when={"optimizer": optimizers_with("epsilon")}, wants_log_scale=True),
    "adamw_learning_rate": FieldRule(float, 0, low_open=True, read_when={"optimizer": ("muon",)}, wants_log_scale=True),
    "muon_scale": FieldRule(str, choices=get_args(MuonScale), read_when={"optimizer": ("muon",)}),
    "weight_decay": FieldRule(float, 0, wants_log_scale=True),
    "weight_decay_scope": FieldRule(str, choices=get_args(WeightDecayScope), needs="weight_decay"),
    "schedule": FieldRule(str, choices=get_args(ScheduleName), code="module:function"),
    "decay_steps": FieldRule(int, 1, read_when={"schedule": ("inverse_sqrt", "step", "linear", "cosine")}),
    "decay_factor": FieldRule(float, 0, 1, low_open=True, read_when={"schedule": ("step",)}),
    "end_learning_rate_factor": FieldRule(float, 0, 1, read_when={"schedule": ("linear", "cosine", "wsd")}),
    "cooldown_share": FieldRule(float, 0, 1, low_open=True, read_when={"schedule": ("wsd",)}),
    "cooldown_shape": FieldRule(str, choices=get_args(CooldownShape), read_when={"schedule": ("wsd",)}),
    "piecewise_points": FieldRule(str, text_form=piecewise.read_points, read_when={"schedule": ("piecewise",)}),
    "piecewise_shape": FieldRule(str, choices=get_args(PiecewiseShape), read_when={"schedule": ("piecewise",)}),
    "warmup_steps": FieldRule(int, 0),
    "warmup": FieldRule(str, choices=get_args(WarmupKind), needs="warmup_steps"),
    "post_warmup_steps": FieldRule(int, 0, needs="warmup_steps"),
    "grad_clip_norm": FieldRule(float, 0, low_open=True),
    "grad_clip": FieldRule(str, choices=get_args(GradClip)),
    "adaptive_clip_factor": FieldRule(
        float, 0, low_open=True, read_when={"grad_clip": ("adaptive",)}, wants_log_scale=True
    ),
    "update_clip_rms": FieldRule(float, 0, low_open=True, read_when={"grad_clip": ("update",)}),
    "accumulate_steps": FieldRule(int, 1),
    "precision": FieldRule(str, choices=get_args(Precision)),
    "polyak_decay": FieldRule(float, 0, 1, high_open=True),
    "activation_checkpointing": FieldRule(str, choices=get_args(ActivationCheckpointing)),
    "initialisation": FieldRule(str, choices=get_args(InitialisationName)),
    "initialisation_steps": FieldRule(int, 1, read_when={"initialisation": _INITIALISES}),
    "initialisation_learning_rate": FieldRule(
        float, 0, low_open=True, read_when={"initialisation": _INITIALISES}, wants_log_scale=True
    ),
    "initialisation_momentum": FieldRule(float, 0, 1, high_open=True, read_when={"initialisation": _INITIALISES}),
}
"""The fields that hyperparameters may set, in the order in which they are shown."""

OF_OPTIMIZERS = ("learning_rate", "momentum", "rho", "beta1", "beta2", "epsilon", "weight_decay")
"""The fields that are arguments of an optimizer. Only these go to an optimizer of the study's own, besides names that
are no fields.
"""
CODE_FIELDS = ("optimizer", "schedule")
"""The fields that may be the name of code."""
SHAPE_OF_SCHEDULE = (
    *("schedule", "decay_steps", "decay_factor", "end_learning_rate_factor"),
    *("warmup_steps", "warmup", "post_warmup_steps"),
    *("cooldown_share", "cooldown_shape", "piecewise_points", "piecewise_shape"),
)
"""The fields on which the learning rate depends at a step of a trial of known length, relative to the base rate."""

BATCH_SIZE = 64
DECAY_FACTOR = 0.1
EVAL_BATCH_SIZE = 1024
COOLDOWN_SHARE = 0.2
"""Hägele et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations" (NeurIPS 2024)."""
ADAPTIVE_CLIP_FACTOR = 0.01
"""Brock et al., "High-Performance Large-Scale Image Recognition Without Normalization" (ICML 2021), for large batches;
smaller ones need a larger factor.
"""
UPDATE_CLIP_RMS = 1.0
"""Shazeer and Stern, "Adafactor" (ICML 2018), section 6."""


@dataclass(frozen=True, slots=True)
class InitialisationDefaults:
    """How long a procedure before step 0 runs, and its learning rate and momentum, where a study does not say."""

    steps: int
    learning_rate: float
    momentum: float


INITIALISATION_DEFAULTS: dict[str, InitialisationDefaults] = {
    # Dauphin and Schoenholz, "MetaInit" (2019).
    "metainit": InitialisationDefaults(steps=500, learning_rate=0.1, momentum=0.9),
    # Zhu et al., "GradInit" (2021), for a wide ResNet; Adam's first decay is the momentum.
    "gradinit": InitialisationDefaults(steps=780, learning_rate=3e-3, momentum=0.9),
}
"""The procedures, with the defaults of their papers."""

INITIALISATION_EXAMPLES = 64
"""The examples of a batch of theirs: GradInit's number. The authors of MetaInit leave it to the caller."""


_CODE = tuple(f"{name}_code" for name in CODE_FIELDS)
_LATER_FIELDS = (
    *("adamw_learning_rate", "muon_scale", "cooldown_share", "cooldown_shape", "piecewise_points", "piecewise_shape"),
    *("adaptive_clip_factor", "update_clip_rms"),
)
"""Fields that earlier versions did not have; each is used only with one optimizer, schedule or clipping."""


def _read_when(name: str) -> Mapping[str, tuple[str, ...]]:
    return FIELDS[name].read_when or {}


@dataclass(frozen=True, slots=True)
class TrainingConfiguration:
    """The fields of one trial, complete.

    `batch_size` counts examples per update. `warmup_steps` come before max_train_steps or are the first of them.
    `post_warmup_steps` follow the warmup at the base rate, before the schedule's decay begins. `decay_steps` None: see
    training.schedules. `grad_clip_norm` None: no clipping. `momentum`, `rho`, `beta1`, `beta2` and `epsilon` are used
    by the optimizers that have them. `accumulate_steps`: the largest number of micro-batches into which the batch of an
    update is divided. `precision`: of the operations that torch.autocast casts; float32 changes nothing.
    `polyak_decay` None: no averaging of the weights. `adamw_learning_rate` None: that of the others. `piecewise_points`
    is text, see language.piecewise. `grad_clip`: what is clipped besides the global norm, see training.clipping.
    `initialisation`: the procedure that rescales the weights before step 0, in `initialisation_steps` iterations; its
    other fields are None where it is none. `optimizer_code` and `schedule_code` are there where these fields are the
    name of code: where it is, and what it gets.
    """

    optimizer: OptimizerName | CodeName
    learning_rate: float
    batch_size: int = BATCH_SIZE
    eval_batch_size: int = EVAL_BATCH_SIZE
    momentum: float = 0.9
    rho: float = 0.99
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    weight_decay_scope: WeightDecayScope = "all"
    schedule: ScheduleName | RangeTest | CodeName = "constant"
    range_test_low: float = 1e-7
    decay_steps: int | None = None
    decay_factor: float = DECAY_FACTOR
    end_learning_rate_factor: float = 0.0
    warmup_steps: int = 0
    warmup: WarmupKind = "prepend"
    post_warmup_steps: int = 0
    grad_clip_norm: float | None = None
    accumulate_steps: int = 1
    precision: Precision = "float32"
    polyak_decay: float | None = None
    activation_checkpointing: ActivationCheckpointing = "none"
    initialisation: InitialisationName = "none"
    initialisation_steps: int | None = None
    initialisation_learning_rate: float | None = None
    initialisation_momentum: float | None = None
    adamw_learning_rate: float | None = None
    muon_scale: MuonScale = "match_adamw"
    cooldown_share: float = COOLDOWN_SHARE
    cooldown_shape: CooldownShape = "one_minus_sqrt"
    piecewise_points: str = ""
    piecewise_shape: PiecewiseShape = "constant"
    grad_clip: GradClip = "none"
    adaptive_clip_factor: float = ADAPTIVE_CLIP_FACTOR
    update_clip_rms: float = UPDATE_CLIP_RMS
    optimizer_code: UsedCode | None = None
    schedule_code: UsedCode | None = None

    def __post_init__(self) -> None:
        for name in _CODE:
            if isinstance(found := getattr(self, name), Mapping):  # as a request has it
                object.__setattr__(self, name, typed_fields.typed(UsedCode, found, name))

    @classmethod
    def from_hyperparameters(cls, values: Mapping[str, Any]) -> TrainingConfiguration:
        """The configuration with these hyperparameters; names that are not fields are left out.

        Where code is the optimizer and the study leaves out learning_rate, it is NaN: the code's own default is not
        known here.
        """
        known = {item.name for item in fields(cls)} - {*_CODE}
        given = {name: value for name, value in values.items() if name in known}
        if is_optimizer(optimizer := given.get("optimizer")):
            given.setdefault("momentum", traits(optimizer).momentum)
            given.setdefault("beta2", traits(optimizer).beta2)
        elif is_code(optimizer):
            given.setdefault("learning_rate", math.nan)
        given.setdefault("eval_batch_size", max(given.get("batch_size", BATCH_SIZE), EVAL_BATCH_SIZE))
        defaults = INITIALISATION_DEFAULTS.get(given.get("initialisation", "none"))
        for item in fields(InitialisationDefaults):
            name = f"initialisation_{item.name}"
            if defaults is None:
                given.pop(name, None)
            else:
                given.setdefault(name, getattr(defaults, item.name))
        return cls(**given)

    def to_json(self) -> dict[str, Any]:
        """The fields as a request has them: those of the initialisation, and of code, only where there is one, and
        those that an earlier version did not have only where they are used.

        So the request of a trial that an earlier version began is the same, and the trial goes on.
        """
        used = {"optimizer": self.optimizer, "schedule": self.schedule, "grad_clip": self.grad_clip}
        unused = {name for name in _LATER_FIELDS if any(used[by] not in when for by, when in _read_when(name).items())}
        if self.grad_clip == "none":
            unused.add("grad_clip")
        unused |= {name for name in _CODE if getattr(self, name) is None}
        found = {
            item.name: typed_fields.untyped(getattr(self, item.name))
            for item in fields(self)
            if item.name not in unused
        }
        if self.initialisation == "none":
            found = {name: value for name, value in found.items() if not name.startswith("initialisation")}
        return found

    @property
    def schedule_shape(self) -> tuple[Scalar | None, ...]:
        """The values of SHAPE_OF_SCHEDULE: where two trials of one length have the same, their schedules are the same
        but for the base rate.
        """
        return tuple(getattr(self, name) for name in SHAPE_OF_SCHEDULE)

    def total_steps(self, max_train_steps: int) -> int:
        """The number of all updates: a prepended warmup is added."""
        return max_train_steps + (self.warmup_steps if self.warmup == "prepend" else 0)

    def micro_batch_sizes(self) -> list[int]:
        """The number of examples in each micro-batch of an update: ceil(batch_size / accumulate_steps), and the rest in
        the last one.
        """
        size = -(-self.batch_size // self.accumulate_steps)
        return [min(size, self.batch_size - first) for first in range(0, self.batch_size, size)]
