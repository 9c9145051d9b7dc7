"""The command `report`, and its page in a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.main import main
from tests.analysis.report.pages import write_pruned, write_training
from tests.analysis.report.test_render import HOSTILE
from tests.browser import Browser, started
from tests.cli.terminal import Terminal


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on runs of two methods, with hostile names, and of their training."""
    folder = tmp_path_factory.mktemp("report")
    root, page = folder / "runs", folder / "report.html"
    for replicate in (1, 2):
        write_training(root, replicate, 0.9 + replicate / 100)
        for strategy in ("snip1", "random"):
            for density in (0.5, 0.25, 0.1):
                layers = {HOSTILE: (density, density / 2), "fc.weight": (1.0, 1.0)}
                accuracy = density / 2 + replicate / 10
                write_pruned(root, strategy, density, replicate, accuracy, layers=layers, device=HOSTILE)
    assert main(["report", f"--root={root}", f"--out={page}"]) == 0
    return page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started() as found:
        yield found


@pytest.fixture
def opened(browser: Browser, report: Path) -> Browser:
    browser.open(report)
    return browser


def center_of(browser: Browser, chart: str, mark: int) -> tuple[float, float]:
    """Scroll to a chart and return the place of a point in the window."""
    x, y = browser.run(
        "const chart = document.querySelector(`#${arguments[0]}-chart > svg`);"
        "chart.scrollIntoView({block: 'center', behavior: 'instant'});"
        "const box = chart.querySelectorAll('.mark')[arguments[1]].getBoundingClientRect();"
        "return [box.x + box.width / 2, box.y + box.height / 2]",
        chart,
        mark,
    )
    return x, y


def tip(browser: Browser, chart: str) -> str:
    script = "const tip = document.querySelector(`#${arguments[0]}-chart .tip`); return tip.hidden ? '' : tip.innerText"
    return str(browser.run(script, chart))


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_the_page_loads_nothing_says_nothing_and_fits(browser: Browser, report: Path, width: int, scheme: str) -> None:
    browser.open(report, width, 800, scheme)

    assert browser.requests() == [report.as_uri()]
    assert browser.log() == []
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.run("return document.querySelectorAll('.chart > svg .mark').length") > 20
    assert browser.run("return document.querySelectorAll('script').length") == 2


def test_a_point_shows_its_values_and_addresses_under_the_pointer(opened: Browser) -> None:
    opened.move_to(*center_of(opened, "curves", 0))

    shown = tip(opened, "curves")

    assert "random, 50% remaining" in shown
    assert "40.00% ± 7.07% (n = 2)" in shown
    assert len(re.findall(r"[0-9a-f]{8}/[12]\b", shown)) == 2
    assert "replicate 1" in shown and "35.00%" in shown and "45.00%" in shown


def test_points_are_reached_by_keys(opened: Browser) -> None:
    opened.run("document.querySelector('#curves-chart > svg').focus()")
    opened.press("Right", "Right", "Right")  # the dense networks, then 50%, 25%
    assert "random, 25% remaining" in tip(opened, "curves")
    opened.press("Down")
    assert "snip1, 25% remaining" in tip(opened, "curves")
    opened.press("Escape")
    assert tip(opened, "curves") == ""


def test_menus_choose_layers_and_metrics_and_lines_can_be_hidden(opened: Browser) -> None:
    def choose(section: str, option: int) -> int:
        script = (
            "const menu = document.querySelector(`#${arguments[0]}-controls select`);"
            "menu.selectedIndex = arguments[1]; menu.dispatchEvent(new Event('change'));"
            "return document.querySelectorAll(`#${arguments[0]}-chart .mark`).length"
        )
        return int(opened.run(script, section, option))

    assert choose("layers", 0) == 2 * 2 * 2  # two methods, two layers, direct and effective
    assert choose("layers", 3) == 2 * 3 * 2  # two methods, three levels, direct and effective
    hide = "document.querySelector('#layers-controls .legend button').click();"
    assert opened.run(hide + "return document.querySelectorAll('#layers-chart .mark').length") == 3 * 2
    assert opened.log() == []


def test_the_list_of_runs_is_searched(opened: Browser) -> None:
    script = (
        "const search = document.querySelector('#runs-controls input');"
        "search.value = 'snip1 10%'; search.dispatchEvent(new Event('input'));"
        "return document.querySelector('#runs-controls [role=status]').textContent"
    )

    assert opened.run(script) == "1 to 2 of 2 runs"


def test_the_page_prints(opened: Browser, tmp_path: Path) -> None:
    path = tmp_path / "report.pdf"
    path.write_bytes(opened.pdf())
    if shutil.which("pdftotext") is None:
        pytest.skip("no pdftotext (Debian: poppler-utils)")

    text = subprocess.run(["pdftotext", "-layout", path, "-"], capture_output=True, text=True, check=True).stdout

    assert text.count("\f") >= 3
    assert "random and snip1 on digits" in text and "Provenance" in text and "1 to 14 of 14 runs" in text
    assert re.search(r"snip1 +40\.00 +27\.50 +20\.00", text)


def test_the_command_names_the_file_and_the_warnings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pruned(tmp_path / "runs", "snip1", 0.5, collapsed=["fc.weight"])
    out = tmp_path / "new" / "page.html"

    assert main(["report", f"--root={tmp_path / 'runs'}", f"--out={out}", "--spread=ci95"]) == 0

    said = capsys.readouterr().out
    assert f"{out}: 1 run, 1 warning" in said and "Collapsed layers" in said
    assert "95% confidence interval" in out.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--where=strategy=none"], "no run"),
        (["--where=stratgy=snip1"], "strategy"),
        (["--value=test_acuracy"], "test_accuracy"),
        (["--lines=stratgy"], "strategy"),
        (["--over=lrr"], "lrr"),
        (["--spread=both"], "ci95"),
        (["--out=."], "folder"),
    ],
)
def test_mistakes_are_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    write_pruned(tmp_path, "snip1", 0.5)

    assert main(["report", f"--root={tmp_path}", f"--out={tmp_path / 'report.html'}", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_report_of_real_runs_needs_no_torch(two_runs: Terminal, tmp_path: Path) -> None:
    code = (
        "import sys; from cli.main import main; "
        f"code = main(['report', '--out={tmp_path / 'report.html'}']); "
        "print(code, sorted({'torch', 'numpy', 'pandas', 'matplotlib'} & set(sys.modules)))"
    )

    result = two_runs.python(code, is_bare=True)

    assert result.out.splitlines()[-1] == "0 []", result.out + result.err
    assert "snip1 on digits" in (tmp_path / "report.html").read_text()
