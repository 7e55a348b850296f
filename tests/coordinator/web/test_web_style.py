"""Whether the pages can be read: contrast of text, by WCAG 2.2, in light and in dark."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

CSS = (files("gpuward.coordinator.web") / "static" / "style.css").read_text()
VARIABLE = re.compile(r"--([a-z0-9-]+): (#[0-9a-f]{6});")
LIGHT, DARK = (
    dict(VARIABLE.findall(block)) for block in re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
)

PAIRS = [
    *(
        (text, ground)
        for text in ("text", "muted", "link")
        for ground in ("page", "surface", "quiet")
    ),
    *((text, "surface") for text in ("sev1", "sev2", "good")),
    *(("on-sev", ground) for ground in ("sev1", "sev2", "sev3", "sev4")),
    ("on-button", "button"),
]


def luminance(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("theme", [LIGHT, {**LIGHT, **DARK}], ids=["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), PAIRS)
def test_contrast(theme, text, ground):
    """AA asks for 4.5:1 of normal text."""
    bright, dim = sorted((luminance(theme[text]), luminance(theme[ground])), reverse=True)

    assert (bright + 0.05) / (dim + 0.05) >= 4.5


def test_nothing_from_elsewhere():
    """No font, image or style of another host: an outage must not take the page with it."""
    assert "url(" not in CSS
    assert "@import" not in CSS
