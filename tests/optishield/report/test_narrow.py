"""Reports on a telephone: nothing is wider than the page but what scrolls in a box of its own."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from optishield.report import evaluation, mask
from tests.optishield.report import evaluations, pairs_run, test_mask

WIDTH_PX = 390
RUN = "20260102T120000Z-train-mask-standard-" + "a-name-that-is-longer-than-any-telephone-is-wide" * 2

# Writes into the page around: how wide the page is, and every element that sticks out of it without a box that scrolls.
PROBE = """<script>
addEventListener('load', () => {
  const width = document.documentElement.clientWidth, found = [];
  for (const one of document.querySelectorAll('body *')) {
    let box = one.parentElement;
    while (box && getComputedStyle(box).overflowX == 'visible') box = box.parentElement;
    const place = one.getBoundingClientRect();
    if (!box && place.width && (place.right > width + 1 || place.left < -1)) found.push(one.tagName + one.className);
  }
  const told = parent.document.createElement('pre');
  told.textContent = 'width ' + width + ', needed ' + document.documentElement.scrollWidth + ': ' + found.join(' ');
  parent.document.body.appendChild(told);
});
</script></body>"""


def told(page: str, folder: Path) -> str:
    """What a browser makes of a page on a telephone. Its own window cannot be as narrow, a frame in it can."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("there is no Chromium; install the Debian package chromium")
    inside = html.escape(page.replace("<details", "<details open").replace("</body>", PROBE))
    frame = f'<iframe width="{WIDTH_PX}" height="900" style="border: 0" srcdoc="{inside}"></iframe>'
    (folder / "frame.html").write_text(f"<!doctype html><html><body>{frame}</body></html>", encoding="utf-8")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += [f"--user-data-dir={folder / 'profile'}", "--hide-scrollbars", "--virtual-time-budget=10000"]
    command += ["--dump-dom", (folder / "frame.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.findall(r"<pre>(width.*?)</pre>", done.stdout, flags=re.DOTALL)
    assert len(found) == 1, done.stderr[-1000:]
    return str(found[0])


def test_the_report_of_a_mask_fits_a_telephone(tmp_path: Path) -> None:
    summary, arrays = test_mask.example()
    page = mask.render(summary.model_copy(update={"run": RUN}), arrays)
    assert told(page, tmp_path) == f"width {WIDTH_PX}, needed {WIDTH_PX}: "


def test_the_report_of_a_camera_of_pairs_fits_a_telephone(tmp_path: Path) -> None:
    page = mask.render(pairs_run.summary(run=RUN), pairs_run.arrays())
    assert told(page, tmp_path) == f"width {WIDTH_PX}, needed {WIDTH_PX}: "


def test_the_report_of_an_evaluation_fits_a_telephone(tmp_path: Path) -> None:
    summary, arrays = evaluations.example()
    page = evaluation.render(replace(summary, run=RUN), arrays)
    assert told(page, tmp_path) == f"width {WIDTH_PX}, needed {WIDTH_PX}: "
