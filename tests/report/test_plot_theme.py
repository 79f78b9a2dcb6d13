"""Tests report/plot_theme.py and the colours of page_files/page.css: both themes can be read, whatever one's sight."""

from __future__ import annotations

import math
import re
from itertools import combinations

from each_case import each_case

from tunectl.report.page_files import FOLDER
from tunectl.report.plot_theme import COLOURS, INFEASIBLE_COLOUR, ON_DARK, bottom_legend
from tunectl.report.plots import vega_lite

STYLE = (FOLDER / "page.css").read_text(encoding="utf-8")
VARIABLES = {
    name: (light, dark) for name, light, dark in re.findall(r"--([a-z-]+): light-dark\((#\w{6}), (#\w{6})\);", STYLE)
}
TEXTS = [
    *(("ink", "page"), ("ink", "soft"), ("ink", "picked"), ("quiet", "page"), ("quiet", "soft"), ("blue", "page")),
    *(("ink", "answer-soft"), ("quiet", "answer-soft"), ("warning-ink", "warning-soft"), ("quiet", "warning-soft")),
    *(("ink", "note-soft"), ("note-ink", "note-soft"), ("quiet", "note-soft"), ("on-blue", "blue"), ("bad", "page")),
    *(("good", "page"), ("wrong", "page"), ("blue", "picked"), ("warning-ink", "answer-soft"), ("quiet", "picked")),
]


CONES = {
    "all cones": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "no red-sensitive cones": ((0.11238, 0.88762, 0), (0.11238, 0.88762, 0), (0.00401, -0.00401, 1)),
    "no green-sensitive cones": ((0.29275, 0.70725, 0), (0.29275, 0.70725, 0), (-0.02234, 0.02234, 1)),
}
"""What readers see of linear RGB (Vienot, Brettel and Mollon, 1999)."""

TOLD_APART = 15
"""Colours that differ by this much in CIELAB are clearly different; 2.3 is just noticeable."""


def linear(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    return [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]


def light_of(colour):
    """The relative luminance of WCAG 2.1."""
    red, green, blue = linear(colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, two):
    darker, lighter = sorted((light_of(one), light_of(two)))
    return (lighter + 0.05) / (darker + 0.05)


def lab(colour, cones):
    """The colour as these cones see it, in CIELAB."""
    red, green, blue = (max(0.0, sum(a * b for a, b in zip(row, linear(colour), strict=True))) for row in cones)
    x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.95047
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.08883
    of_x, of_y, of_z = (part ** (1 / 3) if part > 0.008856 else 7.787 * part + 16 / 116 for part in (x, y, z))
    return 116 * of_y - 16, 500 * (of_x - of_y), 200 * (of_y - of_z)


@each_case(("text", "ground"), TEXTS)
@each_case("theme", [0, 1])  # light and dark
def test_text_can_be_read_in_both_themes(text, ground, theme):
    assert contrast(VARIABLES[text][theme], VARIABLES[ground][theme]) >= 4.5


def test_the_colours_of_settings_are_seen_on_a_dark_page_and_differ_from_each_other():
    page = VARIABLES["page"][1]
    dark = [ON_DARK[colour] for colour in COLOURS]
    assert min(contrast(colour, page) for colour in [*dark, ON_DARK[INFEASIBLE_COLOUR]]) >= 4
    for palette in (dark, list(COLOURS)):
        for cones in CONES.values():
            assert (
                min(math.dist(lab(one, cones), lab(two, cones)) for one, two in combinations(palette, 2)) > TOLD_APART
            )


def colours_in(spec, key=""):
    """The colours of a specification, outside of its data and texts."""
    if isinstance(spec, dict):
        for name, value in spec.items():
            if name not in ("data", "title", "text", "params", "field", "domain"):
                yield from colours_in(value, name)
    elif isinstance(spec, list):
        for value in spec:
            yield from colours_in(value, key)
    elif isinstance(spec, str) and re.fullmatch(r"#[0-9A-Fa-f]{6}|white|black", spec):
        yield spec


def test_every_colour_of_the_page_s_plots_has_one_for_a_dark_page(every_figure):
    for figure in every_figure:
        found = set(colours_in(vega_lite(figure, interactive=True))) - {
            "#555555"
        }  # of the subtitle, which is text there
        assert found
        assert found <= set(ON_DARK), figure.name


def test_a_long_name_in_a_legend_of_the_page_has_a_line_for_each_of_its_values():
    long = "trial 24 (optimizer=nesterov, schedule=constant)"
    assert "labelExpr" in bottom_legend(["a", long], "", interactive=True)
    assert "labelExpr" not in bottom_legend(["a", long], "", interactive=False), "files are wide"
    assert "labelExpr" not in bottom_legend(["adam", "sgd"], "", interactive=True)
