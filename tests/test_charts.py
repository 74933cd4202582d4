import re

import numpy as np

from gfnet_pl.evaluation.calibration import reliability
from gfnet_pl.report.charts import Interval, _apart, interval_chart, line_chart, reliability_chart, track


def test_names_at_the_ends_of_lines_do_not_cover_each_other():
    ends = {"a": 99.0, "b": 98.0, "c": 97.0, "d": 10.0}
    placed = dict(_apart(ends))
    assert list(placed) == list(ends)
    heights = sorted(placed.values())
    assert min(np.diff(heights)) >= 7.99
    assert heights[-1] <= 100
    assert placed["a"] > placed["b"] > placed["c"]
    assert placed["d"] == 10


def test_a_chart_has_no_text_that_is_stretched():
    drawn = line_chart({"x<y": [(1, 0.2), (2, 0.9)], "dot": [(2, 0.5)]}, x="epoch", y="accuracy", percent=True)
    svg = re.search("<svg.*</svg>", drawn)[0]
    assert "<text" not in svg
    assert "<circle" not in svg
    assert drawn.count('<i class="dot') == 1
    assert "x&lt;y" in drawn
    assert "100 %" not in drawn
    assert "80 %" in drawn


def test_a_share_is_placed_on_a_scale_of_percent():
    drawn = track(0.25, (0.1, 0.5), members=[0.0, 1.0])
    assert 'class="band" style="left:10.0%;width:40.0%"' in drawn
    assert 'class="dot" style="left:25.0%"' in drawn
    assert drawn.count("member") == 2
    assert "dot" not in track(None, (0, 1))
    assert "&lt;b&gt;" in interval_chart([Interval("<b>", 1.0, (0.5, 1.0), "n", "words")])


def test_reliability_has_a_dot_for_each_bin_with_pictures():
    confidence = np.array([0.1, 0.11, 0.95])
    drawn = reliability_chart(reliability(confidence, np.array([False, True, True])))
    assert drawn.count('class="dot s0"') == 2
    assert "2 pictures: probability 10.5%, right 50.0%" in drawn
