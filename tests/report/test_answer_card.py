"""The answer as HTML."""

from __future__ import annotations

from tunectl.analysis.comparison.study_answer import BestTrial, StudyAnswer
from tunectl.report.answer_card import answer_html

BEST = BestTrial(
    trial=18,
    setting=0,
    stage=0,
    value=0.01,
    step=1600,
    final_step=2000,
    checkpoint="trials/00018/checkpoints/a<b.pt",
    varying={"optimizer": "<b>", "learning_rate": 0.1},
    fixed={"width": 64},
    command="tunectl show runs/a 18",
)


def test_it_has_the_sentence_what_makes_it_doubtful_and_the_best_trial_that_opens():
    answer = StudyAnswer("a is better than <i>", "search", ["20 trials"], ["search-boundary"], "tunectl retrain", BEST)
    html = answer_html(answer)
    assert html.startswith('<section class="answer" id="answer">')
    assert "a is better than &lt;i&gt;" in html
    assert "In doubt: see search-boundary below." in html
    assert '<button type="button" class="chip" data-trial="18">trial 18</button> (0.01 at step 1,600 of 2,000)' in html
    assert html.index("<dt>optimizer</dt><dd>&lt;b&gt;</dd>") < html.index("<dt>width</dt>")
    assert "a&lt;b.pt" in html
    assert html.count('class="copy"') == 2


def test_without_an_answer_there_is_no_section_and_without_a_best_trial_none_is_named():
    assert answer_html(None) == ""
    assert "data-trial" not in answer_html(StudyAnswer("No trial has ended.", "none"))
