"""What a campaign says about the trials of a study: which of them it launched last."""

from __future__ import annotations

from dataclasses import dataclass

from tunectl.core.errors import StudyError, UsageError
from tunectl.core.folders import StudyFolder
from tunectl.language.campaign import Launch, read_campaign
from tunectl.session.campaign_folder import find_campaign, path_in


@dataclass(frozen=True, slots=True)
class LaunchedTrial:
    """The last launch of the campaign that a study belongs to, `last`, None where there is no campaign or no launch.

    `trial` is the launched trial where it is one of this study. `problem` says why the campaign cannot be read.
    """

    last: Launch | None = None
    trial: int | None = None
    problem: str = ""

    def in_words(self, trial: int) -> str:
        """In a sentence, whether a trial of the study is what is launched; "" where that is not known."""
        if self.last is None:
            return ""
        if trial == self.trial:
            return f"trial {trial} is what the campaign launched last: {self.last.because}"
        return f"trial {trial} is not what the campaign launched last, which is {self.last.place}"


def launched_trial(study: StudyFolder) -> LaunchedTrial:
    """What the campaign of a study launched last; nothing where there is no campaign."""
    try:
        campaign = read_campaign(find_campaign(None, study).folder)
    except UsageError:
        return LaunchedTrial()
    except StudyError as error:
        return LaunchedTrial(problem=str(error).splitlines()[0])
    if not campaign.launched:
        return LaunchedTrial()
    last = campaign.launched[-1]
    is_own = path_in(campaign, last.study).resolve() == study.path.resolve()
    return LaunchedTrial(last, last.trial if is_own else None)
