"""The answer as HTML."""

from __future__ import annotations

from tunectl.analysis.comparison.study_answer import BestTrial, StudyAnswer
from tunectl.report.answer_card import answer_html, answers_html
from tunectl.report.page_model import NamedAnswer

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
    folder="runs/a",
)


def test_it_has_the_sentence_what_makes_it_doubtful_and_the_best_trial_that_opens():
    answer = StudyAnswer("a is better than <i>", "search", ["20 trials"], ["search-boundary"], "tunectl retrain", BEST)
    html = answer_html(answer)
    assert html.startswith('<section class="answer" id="answer">')
    assert "a is better than &lt;i&gt;" in html
    assert "In doubt: see search-boundary below." in html
    assert '<button type="button" class="chip" data-trial="18">trial 18</button> (0.01 at step 1,600 of 2,000)' in html
    assert html.index("<dt>optimizer</dt><dd>&lt;b&gt;</dd>") < html.index("<dt>width</dt>")
    assert "<code>runs/a/trials/00018/checkpoints/a&lt;b.pt</code>" in html, "from where the commands are called"
    assert html.count('class="copy"') == 3


def test_answers_of_several_studies_are_below_each_other_and_their_trials_have_the_page_s_numbers():
    answers = [
        NamedAnswer("first<", "Which?", StudyAnswer("a is better", "search", doubts=["search-boundary"], best=BEST), 0),
        NamedAnswer("second", "", StudyAnswer("No trial has ended.", "none"), 1000),
        NamedAnswer("third", "", StudyAnswer("b is better", "search", best=BEST), 2000),
    ]
    html = answers_html(answers)
    assert [html.index(f"<h3>{name}</h3>") for name in ("first&lt;", "second", "third")] == sorted(
        html.index(sentence) for sentence in ("<h3>first", "<h3>second", "<h3>third")
    )
    assert '<p class="quiet">Which?</p>' in html
    assert "In doubt: see search-boundary in its own report." in html
    assert 'data-trial="18">trial 18<' in html
    assert 'data-trial="2018">trial 18<' in html
    assert answers_html([]) == ""


def test_without_an_answer_there_is_no_section_and_without_a_best_trial_none_is_named():
    assert answer_html(None) == ""
    assert "data-trial" not in answer_html(StudyAnswer("No trial has ended.", "none"))
