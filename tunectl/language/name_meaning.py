"""What the name of a hyperparameter says about it: whether it regularises, is a share, a size, or of the optimizer.

These are the only such lists: the warnings about a study's design, the findings, the sweeps and drafts use them.
"""

from __future__ import annotations

import re

from tunectl.core.records import Scalar
from tunectl.language.configuration import FIELDS

_SHARE = (
    r"\w*dropout\d*|drop_?(?:rate|p|prob|path|block|connect|out)|\w+_p?drop|(?:layer|path|attn)drop|stochastic_?depth"
    r"|zoneout|label_?smoothing"
)
"""Words for a share of the units, the paths or the label's weight: a number from 0 to 1."""

_WORD = (
    rf"{_SHARE}|weight_?decay|wd|l1|l2|l1_?l2|reg|regulari[sz](?:er|ation)|penalty|smoothing|mix_?up|cut_?mix|cut_?out"
    r"|random_?erasing|\w*augment(?:ation)?s?|augs?|noise|\w+_noise|\w*jitter"
)
_STRENGTH = (
    r"rate|p|prob|probability|alpha|factor|strength|coeff?|coefficient|lambda|weight|penalty|std|sigma|scale|level"
    r"|epsilon|eps|amount|magnitude|ratio|fraction|max"
)
_SLOWS = (
    r"\w*dropout\d*|drop_?(?:rate|p|prob|path|block|connect|out)|\w+_p?drop|(?:layer|path|attn)drop|stochastic_?depth"
    r"|zoneout|mix_?up|cut_?mix|cut_?out|random_?erasing|\w*augment(?:ation)?s?|augs?|\w*jitter"
)
"""Words for what gives a network other inputs or other parts of itself in each update."""
_SLOWS_TRAINING = re.compile(rf"(?:\w+_)?(?:{_SLOWS})(?:_\w+)?")
_REGULARISES = re.compile(rf"(?:\w+_)?(?:{_WORD})(?:_\w+)?")
_IS_SHARE = re.compile(rf"(?:\w+_)?(?:{_SHARE}|mix_?up|cut_?mix)(?:_(?:rate|p|prob|probability|factor))?")
_IS_STRENGTH = re.compile(rf"(?:\w+_)?(?:{_WORD})(?:_(?:{_STRENGTH}))*")
_TURNED_AROUND = re.compile(r"(?:\w+_)?(?:keep|survival|retain)(?:_\w+)?")
"""Words for what is kept, not dropped: off at 1, or at the number of layers; only the study can say which."""

_DOES_NOT = re.compile(
    r"(?:\w+_)?(?:lr|learning_rate|momentum|betas?_?[12]?|eps|epsilon|rho|nesterov|optimi[sz]er|schedule|scheduler"
    r"|warm_?up|steps?|epochs?|iterations?|batch|clip|grad_norm|accumulat(?:e|ion)|precision|dtype|amp|seed|workers?"
    r"|threads?|devices?|gpus?|path|dir|folder|file|data|dataset|split|checkpoints?|resume|save|log|logging|verbose|eval"
    r"|init|width|depth|layers?|units?|hidden|dims?|sizes?|channels?|heads?|blocks?|filters?|kernel|stride|padding|bias"
    r"|pool(?:ing)?|activation|act|norm|normali[sz]ation|residual|embedding|vocab|classes|features|seq|length|resolution"
    r"|model|arch|architecture|network|backbone|variant)"
    r"(?:_(?:sizes?|dims?|scale|scope|name|type|kind|mode|factor|decay|every|steps|norm|dir|path|id|layers?|fn|function)){0,2}"
)
_OFF_WORDS = ("", "none", "off", "no", "null", "false")

_IS_MODEL_SIZE = re.compile(
    r"(?:model_|net_|network_|mlp_|encoder_|decoder_)?(?:(?:hidden_)?width|depth|d_model|(?:hidden|model|embed|embedding)"
    r"_(?:size|dim)|n(?:um)?_(?:hidden_)?(?:layers?|heads?|blocks?|units?|channels?)|channels)"
)
_IS_MODEL_CHOICE = re.compile(r"model(?:_name)?|arch(?:itecture)?|backbone|network|norm(?:ali[sz]ation)?")
_IS_OPTIMIZER_CHOICE = re.compile(r"optimi[sz]er(?:_name)?|optim|opt")
_IS_OF_OPTIMIZER = re.compile(r"momentum|rho|beta_?[12]|eps|epsilon")
_IS_OF_SCHEDULE = re.compile(
    r"(?:lr_)?schedule|(?:lr_)?scheduler|decay_(?:steps|factor)|end_learning_rate_factor"
    r"|cooldown_(?:share|shape|steps)|piecewise_(?:points|shape)"
)


def regularises(name: str) -> bool | None:
    """Whether a hyperparameter of this name regularises or augments; None where the name does not show it."""
    plain = _plain(name)
    if plain in FIELDS and plain != "weight_decay":
        return False
    if _REGULARISES.fullmatch(plain) or _TURNED_AROUND.fullmatch(plain):
        return True
    if any(means(name) for means in (is_architecture, chooses_optimizer, is_of_optimizer, is_of_schedule)):
        return False
    return False if _DOES_NOT.fullmatch(plain) else None


def is_share(name: str) -> bool:
    """Whether a hyperparameter of this name is a share, a number of at least 0 and below 1."""
    plain = _plain(name)
    return bool(_IS_SHARE.fullmatch(plain)) and not _TURNED_AROUND.fullmatch(plain)


def slows_training(name: str) -> bool:
    """Whether a hyperparameter of this name is an augmentation or a dropout, with which training needs more steps."""
    plain = _plain(name)
    return bool(_SLOWS_TRAINING.fullmatch(plain)) and not _TURNED_AROUND.fullmatch(plain)


def is_off(value: Scalar) -> bool:
    """Whether a regularisation is off at this value: 0, false, or a word such as none."""
    return value.lower() in _OFF_WORDS if isinstance(value, str) else value == 0


def off_value(name: str, value: Scalar) -> Scalar | None:
    """The value at which a regularisation is off: false for a switch, 0 for a strength; None where it is not known."""
    plain = _plain(name)
    if regularises(name) is not True or _TURNED_AROUND.fullmatch(plain):
        return None
    if is_off(value):
        return value
    if isinstance(value, bool):
        return False
    return 0 if not isinstance(value, str) and _IS_STRENGTH.fullmatch(plain) else None


def is_model_size(name: str) -> bool:
    """Whether a hyperparameter of this name is a size of the model, such as its width or the number of its layers."""
    return bool(_IS_MODEL_SIZE.fullmatch(_plain(name)))


def is_architecture(name: str) -> bool:
    """Whether a hyperparameter of this name is a size of the model, or chooses one of several models."""
    return is_model_size(name) or bool(_IS_MODEL_CHOICE.fullmatch(_plain(name)))


def chooses_optimizer(name: str) -> bool:
    """Whether a hyperparameter of this name chooses the optimizer."""
    return bool(_IS_OPTIMIZER_CHOICE.fullmatch(_plain(name)))


def is_of_optimizer(name: str) -> bool:
    """Whether a hyperparameter of this name belongs to the optimizer's rule, besides the learning rate."""
    return bool(_IS_OF_OPTIMIZER.fullmatch(_plain(name)))


def is_of_schedule(name: str) -> bool:
    """Whether a hyperparameter of this name chooses or shapes the schedule of the learning rate."""
    return bool(_IS_OF_SCHEDULE.fullmatch(_plain(name)))


def _plain(name: str) -> str:
    """The name in lower case, its words separated by underscores: dropoutRate is dropout_rate."""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()).strip("_")
