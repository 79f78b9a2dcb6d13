"""Tests the scripts in report/page_files as a browser runs them."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from headless_browser import browser, found_browser
from made_up_page import NASTY, empty_page, made_up_page
from narrowing import present

from tunectl.report.page import page_html

PROGRAM = found_browser()

pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="no Chromium or Chrome here: put one on the path, or name it in TUNECTL_CHROMIUM"
)

TRIALS = 210
MARKED = "document.querySelectorAll('tr[aria-selected=true]').length"


@pytest.fixture(scope="module")
def chromium():
    with browser(present(PROGRAM)) as page:
        yield page


@pytest.fixture(scope="module")
def opened(chromium, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page_html(made_up_page(TRIALS, 5)), encoding="utf-8")
    chromium.open(path)
    chromium.wait("document.documentElement.dataset.plots === '13 of 13'")
    return chromium


@pytest.fixture
def page(opened):
    opened.run("document.querySelector('#selection .clear')?.click()")
    opened.wait("!document.querySelector('[data-plot] path[stroke=\"#111111\"]')")
    return opened


def circle(page, plot, place):
    """Where a trial's circle is in the window, after scrolling to its plot."""
    return page.run(
        f"""(() => {{
            const holder = document.querySelector('[data-plot="{plot}"]');
            holder.scrollIntoView({{block: 'center'}});
            const box = holder.querySelectorAll('.mark-symbol.role-mark path')[{place}].getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2];
        }})()"""
    )


def strong(page, plot):
    """How many circles and crosses of a plot are drawn as selected."""
    return page.run(
        f"""[...document.querySelectorAll('[data-plot="{plot}"] .mark-symbol.role-mark path')]
            .filter((path) => path.getAttribute('stroke') === '#111111').length"""
    )


def column(page, number):
    return page.run(
        f"[...document.querySelectorAll('.trials tbody tr[data-row]')].map((row) => row.cells[{number}].textContent)"
    )


def press_heading(page, number):
    page.run(f"document.querySelectorAll('.trials th button')[{number}].click()")


def test_a_click_on_a_point_marks_the_trial_in_every_plot_and_in_the_table(page):
    page.click(*circle(page, 0, 2))
    page.wait(f"{MARKED} === 1")
    page.wait("document.querySelectorAll('[data-plot] path[stroke=\"#111111\"]').length >= 5")
    assert [strong(page, plot) for plot in range(4)] == [1, 1, 1, 1]
    trial = page.run("document.querySelector('tr[aria-selected=true]').dataset.row")
    assert page.run("document.querySelector('#selection .chip').textContent") == f"trial {trial}"
    page.run("document.querySelector('#selection .clear').click()")
    page.wait("!document.querySelector('[data-plot] path[stroke=\"#111111\"]')")
    assert page.run("document.getElementById('selection').hidden")
    assert page.run(MARKED) == 0
    assert page.console == []
    assert [url.split(":")[0] for url in page.requests] == ["file"]


def test_a_rectangle_selects_the_trials_within(page):
    x, y = circle(page, 0, 0)
    page.mouse("Moved", x - 12, y - 12)
    page.mouse("Pressed", x - 12, y - 12, button="left", clickCount=1, buttons=1)
    page.mouse("Moved", x + 12, y + 12, button="left", buttons=1)
    page.mouse("Released", x + 12, y + 12, button="left", clickCount=1)
    page.wait("!document.getElementById('selection').hidden")
    assert page.run("document.querySelectorAll('#selection .chip').length") >= 1
    assert page.console == []


def test_pointing_at_a_trial_shows_its_values(page):
    x, y = circle(page, 3, 0)
    page.mouse("Moved", x - 1, y)
    page.mouse("Moved", x, y)
    page.wait("!document.getElementById('tip').hidden")
    assert "trial" in page.run("document.getElementById('tip').textContent")


def test_a_click_on_a_row_and_on_a_finding_s_trial_selects(page):
    page.run("document.querySelectorAll('.trials tbody tr')[3].cells[1].click()")
    page.wait("document.querySelectorAll('[data-plot] path[stroke=\"#111111\"]').length >= 5")
    assert page.run(MARKED) == 1
    page.run("document.querySelectorAll('.finding [data-trial]')[0].click()")
    assert page.run("document.querySelector('#selection .chip').textContent") == "trial 3"


def test_tables_sort_numbers_as_numbers_with_what_is_missing_last(page):
    for order in (1, -1):
        press_heading(page, 7)
        found = column(page, 7)
        assert page.run("document.querySelectorAll('.trials tr[data-row]').length") < TRIALS
        assert found[0] == ("0.25" if order == 1 else "inf")
    press_heading(page, 6)
    numbers = [float(text) for text in column(page, 6) if text]
    assert numbers == sorted(numbers)
    assert len(numbers) > 50
    page.run("document.querySelector('.trials').parentElement.scrollTop = 1e6")
    page.wait("document.querySelector('.trials tbody').lastChild.dataset.row")
    assert column(page, 6)[-1] == ""
    assert page.run("document.querySelectorAll('.trials th')[6].getAttribute('aria-sort')") == "ascending"


def test_a_selected_trial_far_down_is_scrolled_to(page):
    page.run("document.querySelectorAll('.finding [data-trial]')[0].click()")
    press_heading(page, 0)
    press_heading(page, 0)
    page.run("document.querySelectorAll('.finding [data-trial]')[1].click()")
    page.wait(f"{MARKED} === 1")
    box = page.run(
        """(() => { const box = document.querySelector('.trials').parentElement.getBoundingClientRect();
        const row = document.querySelector('tr[aria-selected=true]').getBoundingClientRect();
        return [box.top, row.top, row.bottom, box.bottom]; })()"""
    )
    assert box == sorted(box)


def test_a_trial_opens_to_its_values_curves_and_log_as_text(page):
    page.run("document.querySelector('[data-open=\"0\"]').click()")
    page.wait("document.querySelectorAll('#trial .curves svg').length === 3")
    text = page.run("document.getElementById('trial').textContent")
    for part in ("Trial 0", "learning_rate", "valid/loss", NASTY, "step 0"):
        assert part in text
    assert page.run("document.querySelectorAll('img').length") == 0
    page.run("document.querySelector('#trial .close').click()")
    assert not page.run("document.getElementById('trial').open")
    assert page.console == []


def test_nothing_is_wider_than_the_window(page):
    for width in (1920, 1280, 800, 390):
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        assert page.run("document.documentElement.scrollWidth") <= width


def rows(page):
    return page.run("document.querySelectorAll('.trials tr[data-row]').length")


def type_in_filter(page, text):
    page.run(
        f"""(() => {{ const field = document.querySelector('.trials').closest('.table').querySelector('.filter');
        field.value = {json.dumps(text)}; field.dispatchEvent(new Event('input')); }})()"""
    )


def test_a_table_is_filtered_by_words_and_by_conditions(page):
    count = "document.querySelector('.trials').closest('.table').querySelector('.count').textContent"
    type_in_filter(page, "trial<5 state=completed")
    page.wait(f"{count}.includes('of')")
    assert rows(page) <= 5
    assert {int(text) for text in column(page, 0)} <= set(range(5))
    before = page.run(count)
    type_in_filter(page, "INFEASIBLE")
    page.wait(f"{count} !== {json.dumps(before)}")
    assert set(column(page, 1)) == {"infeasible"}
    type_in_filter(page, "learning_rate>")
    page.wait(f"{count}.startsWith('0 of')")
    type_in_filter(page, "")
    page.wait(f"{count} === '{TRIALS} rows'")


def test_columns_are_chosen_and_the_trial_stays(page):
    choice = "[...document.querySelector('.trials').closest('.table').querySelectorAll('.choices.many input')]"
    headings = "[...document.querySelectorAll('.trials th')].map((cell) => cell.textContent)"
    before = page.run(headings)
    page.run(f"{choice}[0].click()")
    assert page.run(headings) == [before[0], *before[2:]]
    assert (
        len(page.run("[...document.querySelectorAll('.trials tr[data-row]')[0].cells].map(String)")) == len(before) - 1
    )
    page.run(f"{choice}[0].click()")
    assert page.run(headings) == before


def saved(page, button):
    """What a click on a button of the menus saves: its name and its text."""
    return page.run(
        f"""(async () => {{
            const kept = [];
            const made = URL.createObjectURL;
            URL.createObjectURL = (blob) => {{ kept.push(blob); return made.call(URL, blob); }};
            const click = HTMLAnchorElement.prototype.click;
            let name = '';
            HTMLAnchorElement.prototype.click = function () {{ name = this.download; }};
            {button}.click();
            while (!kept.length || !name) await new Promise((done) => setTimeout(done, 5));
            URL.createObjectURL = made;
            HTMLAnchorElement.prototype.click = click;
            const bytes = new Uint8Array(await kept[0].arrayBuffer());
            return [name, kept[0].type, bytes.length, new TextDecoder().decode(bytes)];
        }})()"""
    )


def choice(holder, name):
    buttons = f"[...document.querySelector('{holder}').querySelectorAll('.choices button')]"
    return f"{buttons}.find((item) => item.textContent === '{name}')"


def test_a_plot_is_saved_as_svg_png_and_csv_without_a_network(page):
    name, kind, _, svg = saved(page, choice("#plot-0", "SVG"))
    assert (name, kind) == ("axis-rate.svg", "image/svg+xml")
    assert svg.startswith("<svg")
    assert "Error against rate" in svg
    assert "#171D24" not in svg, "on white, whatever the theme"
    name, kind, size, _ = saved(page, choice("#plot-0", "PNG"))
    assert (name, kind) == ("axis-rate.png", "image/png")
    assert size > 5_000
    name, _, _, csv = saved(page, choice("#plot-0", "CSV"))
    header, *lines = csv.strip().split("\n")
    assert name == "axis-rate.csv"
    assert header.startswith("learning rate,best valid/error_rate (lower is better),trial,series")
    assert len(lines) == TRIALS
    assert page.console == []
    assert [url.split(":")[0] for url in page.requests if not url.startswith("blob:")] == ["file"]


def test_a_table_is_saved_as_csv_and_latex_as_it_is_shown(page):
    type_in_filter(page, "trial<2")
    page.wait("document.querySelectorAll('.trials tr[data-row]').length === 2")
    table = '[data-table="1"]'
    name, _, _, csv = saved(page, choice(table, "CSV"))
    lines = csv.split("\n")
    assert name == "all-trials.csv"
    assert lines[0].startswith("trial,state,learning_rate")
    assert len(lines) == 4
    _, _, _, latex = saved(page, choice(table, "LaTeX"))
    assert "\\toprule" in latex
    assert "best\\_value" in latex
    assert "\\textless{}/script\\textgreater{}" in latex
    assert latex.count("\\\\\n") == 3
    type_in_filter(page, "")
    page.wait("document.querySelectorAll('.trials tr[data-row]').length > 2")


def test_a_trial_has_its_neighbours_in_the_order_of_the_table(page):
    press_heading(page, 0)
    order = [int(text) for text in column(page, 0)][:3]
    page.run(f"document.querySelector('[data-open=\"{order[0]}\"]').click()")
    title = "document.getElementById('trial-title').textContent"
    assert page.run(title) == f"Trial {order[0]}"
    assert page.run("document.querySelector('#trial [aria-label=\"previous trial\"]').disabled")
    page.run("document.querySelector('#trial [aria-label=\"next trial\"]').click()")
    assert page.run(title) == f"Trial {order[1]}"
    for kind in ("keyDown", "keyUp"):
        page.call("Input.dispatchKeyEvent", type=kind, key="ArrowRight", code="ArrowRight", windowsVirtualKeyCode=39)
    assert page.run(title) == f"Trial {order[2]}"
    page.run("document.getElementById('trial').close()")
    assert page.console == []


def test_a_dark_system_has_a_dark_page_whose_plots_can_be_read(page):
    ink = "getComputedStyle(document.querySelector('[data-plot=\"0\"] .role-axis-title text')).fill"
    light = page.run(ink)
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    page.wait(f"{ink} !== '{light}'")
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(23, 29, 36)"
    page.run("document.getElementById('theme').click()")
    page.wait(f"{ink} === '{light}'")
    assert page.run("document.getElementById('theme').textContent") == "Theme: light"
    page.call("Emulation.setEmulatedMedia", features=[])
    for _ in range(2):
        page.run("document.getElementById('theme').click()")
    page.wait(f"{ink} === '{light}'")
    assert page.console == []


def test_an_empty_study_has_a_page_without_errors(chromium, tmp_path):
    path = tmp_path / "empty.html"
    path.write_text(page_html(empty_page()), encoding="utf-8")
    chromium.open(path)
    chromium.wait("document.documentElement.dataset.plots === '1 of 1'")
    assert chromium.console == []


def test_no_legend_is_wider_than_its_plot_and_two_are_below_each_other(chromium, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(page_html(made_up_page(6, 5)), encoding="utf-8")
    chromium.open(path, width=390)
    chromium.wait("document.documentElement.dataset.plots === '13 of 13'")
    legends = chromium.run(
        """[...document.querySelectorAll('[data-plot] svg')].map((svg) => [...svg.querySelectorAll('.role-legend')].map(
            (legend) => [legend, svg].map((part) => part.getBoundingClientRect())
        ).map(([own, all]) => [own.left - all.left, all.right - own.right, own.top, own.bottom]))"""
    )
    found = [legend for of_plot in legends for legend in of_plot]
    assert found
    assert min(min(left, right) for left, right, _, _ in found) > -1
    assert any(len(of_plot) > 1 for of_plot in legends)
    for of_plot in legends:
        assert all(upper[3] <= lower[2] + 1 for upper, lower in pairwise(sorted(of_plot, key=lambda one: one[2])))
