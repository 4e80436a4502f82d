from xml.etree import ElementTree

import pytest
from PIL import Image

from nearfirst.client.demo.figure import draw_figure, spread


def test_the_figure_is_written_as_svg_and_as_a_png_1600_pixels_wide(runs, tmp_path):
    paths = [tmp_path / "figure.svg", tmp_path / "figure.png"]
    draw_figure(runs, "A title", "on some data", paths)
    assert ElementTree.parse(paths[0]).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    with Image.open(paths[1]) as image:
        assert image.width == 1600


def test_the_svg_names_data_axes_and_each_line_with_its_last_loss(runs, tmp_path):
    draw_figure(runs, "A title", "on some data", [tmp_path / "figure.svg"])
    text = (tmp_path / "figure.svg").read_text()
    for words in (
        "A title",
        "on some data",
        "optimizer step",
        "mean test loss (nats per token)",
        "TMA nearest first  1.25",
        "TMA farthest first  1.25",
        "WSD nearest first  1.00",
        "2 seeds",
        "lowest to highest seed",
    ):
        assert words in text


def test_the_same_runs_give_the_same_bytes(runs, tmp_path):
    for name in ("a.svg", "b.svg"):
        draw_figure(runs, "A title", "on some data", [tmp_path / name])
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize(
    ("heights", "expected"),
    [
        ([0.1, 0.9], [0.1, 0.9]),
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.5, 0.5, 0.5], [0.4, 0.5, 0.6]),
        ([0.2, 0.3, 0.32], [0.1733, 0.2733, 0.3733]),
    ],
)
def test_labels_are_moved_apart_around_their_mean(heights, expected):
    assert spread(heights, 0.1) == pytest.approx(expected, abs=1e-4)
