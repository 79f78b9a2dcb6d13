"""Which hyperparameters regularise or augment, by their names, and at which value they are off.

This is the only such list: the warnings about a study's design, the findings and the sweeps use it.
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


def regularises(name: str) -> bool | None:
    """Whether a hyperparameter of this name regularises or augments; None where the name does not show it."""
    plain = _plain(name)
    if plain in FIELDS and plain != "weight_decay":
        return False
    if _REGULARISES.fullmatch(plain) or _TURNED_AROUND.fullmatch(plain):
        return True
    return False if _DOES_NOT.fullmatch(plain) else None


def is_share(name: str) -> bool:
    """Whether a hyperparameter of this name is a share, a number of at least 0 and below 1."""
    plain = _plain(name)
    return bool(_IS_SHARE.fullmatch(plain)) and not _TURNED_AROUND.fullmatch(plain)


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


def _plain(name: str) -> str:
    """The name in lower case, its words separated by underscores: dropoutRate is dropout_rate."""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()).strip("_")
