"""The groups of parameters that a workload gives its optimizer, with their own learning rates and options."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from tunectl.core.errors import WorkloadError
from tunectl.core.user_code import is_code
from tunectl.core.wording import first_listed, listed
from tunectl.language.code_arguments import RATE, STUDY_RATE
from tunectl.language.configuration import TrainingConfiguration

RATE_FACTOR = "given_rate_factor"
"""The option of a group that has options of its own: the multiple of the configuration's learning rate that it has."""

_WHERE = "parameter_groups(model)"
_MOST_NAMED = 3
_NO_OPTIONS = ("params", "name", "param_names", RATE_FACTOR)
"""What a group has besides options; torch has names for a user's own use."""


def given_groups(
    give: Callable[..., Any], model: nn.Module, trained: Sequence[nn.Parameter], configuration: TrainingConfiguration
) -> list[dict[str, Any]]:
    """The workload's groups, as torch's optimizers take them: dicts with `params` and options.

    Each parameter in `trained` is in exactly one of them. A group's `lr` is its base rate, which follows the schedule
    as that of the configuration does. `give` gets the model, and the configuration where it has a second parameter.
    Raises WorkloadError where this is not so.
    """
    found = give(model, configuration) if _takes_two(give) else give(model)
    if not isinstance(found, (list, tuple)) or not all(isinstance(group, Mapping) for group in found):
        raise WorkloadError(f"{_WHERE}: expected a list of dicts with `params`, got {_kind(found)}")
    groups = [_group(group, index, configuration.learning_rate) for index, group in enumerate(found)]
    _check_parts(groups, model, trained)
    return [group for group in groups if group["params"]]


def refuse_unknown_options(groups: Sequence[Mapping[str, Any]], optimizer: str, known: Mapping[str, Any]) -> None:
    """Raise WorkloadError where a group has an option that the optimizer would pass over, as torch's do silently.

    `known` are its defaults. One of the study's own may read others; but none the study's name of its rate.
    """
    for group in groups:
        for name in group:
            is_other = name not in known and name not in _NO_OPTIONS
            if is_other and (not is_code(optimizer) or name == STUDY_RATE):
                hint = RATE if name == STUDY_RATE else listed([item for item in known if _is_shown(known[item])])
                raise WorkloadError(
                    f"{_WHERE}: {optimizer} does not read the option {name!r} of a group; expected {hint}"
                )


def _is_shown(default: Any) -> bool:
    return default is not None and not isinstance(default, bool)


def rate_of(group: Mapping[str, Any], rate: float) -> float:
    """The learning rate of a group where that of the update is `rate`."""
    factor = group.get(RATE_FACTOR)
    return rate if factor is None else rate * float(factor)


def has_own_options(optimizer: Optimizer) -> bool:
    """Whether a group has a learning rate or other options of its own, which the configuration does not say."""
    return any(RATE_FACTOR in group for group in optimizer.param_groups)


def set_rate(group: dict[str, Any], rate: float) -> None:
    """Set a group's learning rate for an update with this rate; a tensor keeps its place."""
    own = rate_of(group, rate)
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(own)
    else:
        group["lr"] = own


def set_rates(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rates of all groups for an update with this rate."""
    for group in optimizer.param_groups:
        set_rate(group, rate)


def _takes_two(give: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(give).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = [item for item in parameters if item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD)]
    return len([item for item in positional if item.default is item.empty]) >= 2 or any(
        item.name == "configuration" for item in positional[1:]
    )


def _kind(found: Any) -> str:
    return "None (is a return missing?)" if found is None else f"a {type(found).__name__}"


def _group(group: Mapping[str, Any], index: int, base: float) -> dict[str, Any]:
    if "params" not in group:
        raise WorkloadError(f"{_WHERE}[{index}]: expected a dict with `params`, got {', '.join(map(str, group))}")
    params = group["params"]
    params = [params] if isinstance(params, Tensor) else list(params)
    if not all(isinstance(item, Tensor) for item in params):
        # Pairs of names and parameters, as named_parameters() gives them.
        params = [item[1] if isinstance(item, tuple) and len(item) == 2 else item for item in params]
    if not all(isinstance(item, Tensor) for item in params):
        raise WorkloadError(f"{_WHERE}[{index}]: expected parameters of the model in `params`")
    options = {name: value for name, value in group.items() if name != "params"}
    if "lr" in options:
        rate = float(options["lr"])
        if not 0 <= rate < math.inf:
            raise WorkloadError(f"{_WHERE}[{index}]: expected a learning rate of at least 0, got {options['lr']!r}")
        options |= {"lr": rate, RATE_FACTOR: rate / base}
    elif options:
        options[RATE_FACTOR] = 1.0
    return {"params": params, **options}


def _check_parts(groups: Sequence[Mapping[str, Any]], model: nn.Module, trained: Sequence[nn.Parameter]) -> None:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    seen = [id(parameter) for group in groups for parameter in group["params"]]
    if strange := sum(key not in names for key in seen):
        raise WorkloadError(f"{_WHERE}: expected parameters of the model, got {strange} that are not")
    if twice := [names[key] for key in dict.fromkeys(seen) if seen.count(key) > 1]:
        raise WorkloadError(
            f"{_WHERE}: expected each parameter in one group, got {first_listed(twice, _MOST_NAMED)} in several"
        )
    if missing := [names[id(parameter)] for parameter in trained if id(parameter) not in set(seen)]:
        raise WorkloadError(
            f"{_WHERE}: expected every trained parameter in a group, got none for "
            f"{first_listed(missing, _MOST_NAMED)}; write requires_grad_(False) for what is not to be trained"
        )
