"""The documentation: links lead somewhere, commands and options exist, programs run as written."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from unirestore_ros.cli import COMMANDS, run

LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^```(?:bash|console|yaml)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`]+)`")
WAYS_IN = re.compile(r"(?:python3? -m unirestore_ros|ros2 run unirestore_ros)\s+(.+)")
END_OF_COMMAND = re.compile(r"\s(?:#|&&|&$|\|)|;")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
NODES = ("restore_node", "driver_display", "segmentation_head", "detection_head")
# A page in somebody else's repository, which a docstring cites.
CITED = {"docs/operators.md"}


def pages(repository: Path) -> list[Path]:
    folders = (repository, repository / "engines")
    return [p for f in folders for p in f.glob("*.md")] + [*(repository / "docs").rglob("*.md")]


def anchors(page: Path) -> set[str]:
    """What headings are called in links, by GitHub's rule."""
    headings = HEADING.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}


def test_links_lead_to_files_and_headings_that_exist(repository: Path) -> None:
    broken = []
    for page in pages(repository):
        for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
            if "://" in link:
                continue
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(f"{page.relative_to(repository)}: {link}")
    assert not broken


def test_pages_that_the_code_names_exist(repository: Path) -> None:
    sources = [repository / "setup.py", *repository.glob("*.yaml"), *repository.glob("*.toml")]
    for room in ("unirestore_ros", "test", "launch", "config", "engines"):
        sources += [p for p in (repository / room).rglob("*") if p.suffix in (".py", ".yaml")]
    named = {
        (source, page)
        for source in sources
        for page in re.findall(r"docs/[\w/-]+\.(?:md|rst|json)", source.read_text(encoding="utf-8"))
        if page not in CITED
    }
    assert len(named) > 3
    assert not [f"{s}: {page}" for s, page in named if not (repository / page).exists()]


def test_files_named_in_running_text_exist(repository: Path) -> None:
    missing = []
    for page in pages(repository):
        for code in INLINE.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
            for name in re.findall(r"(?<![\w/~.])(?:[a-z_]+/)+\w+\.(?:py|yaml|xml|toml)\b", code):
                roots = (repository, repository / "unirestore_ros", page.parent)
                if not any((root / name).exists() for root in roots):
                    missing.append(f"{page.name}: {name}")
    assert not missing


def command_lines(page: Path) -> list[str]:
    """What follows `python -m unirestore_ros` or `ros2 run unirestore_ros`, and commands that are
    named in running text, as in `bag play`."""
    text = page.read_text(encoding="utf-8").replace("\\\n", "")
    blocks = [line for block in SHELL.findall(text) for line in block.splitlines()]
    inline = [" ".join(code.split()) for code in INLINE.findall(FENCE.sub("", text))]
    lines = [way[1] for line in [*blocks, *inline] if (way := WAYS_IN.search(line))]
    lines += [code for code in inline if code.split(" ")[0] in COMMANDS and " " in code]
    return [END_OF_COMMAND.split(line)[0] for line in lines]


def test_the_way_of_a_frame_passes_twelve_files(repository: Path) -> None:
    page = (repository / "docs" / "architecture.md").read_text(encoding="utf-8")
    way = page.split("## The way of a frame")[1].split("\n## ")[0]
    rows = re.findall(r"^\| *(\d+) \| `([\w/]+\.py)` \|", way, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, len(rows) + 1))
    assert 8 <= len(rows) <= 12
    for _, file in rows:
        assert (repository / "unirestore_ros" / file).is_file(), file


@cache
def help_text(*words: str) -> str:
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.setenv("COLUMNS", "1000")
        with contextlib.suppress(SystemExit):
            run(words[0], [*words[1:], "--help"])
    return said.getvalue()


def actions(command: str) -> set[str]:
    """The second word of `bag` and `train`, as their help lists them."""
    if command not in ("bag", "train"):
        return set()
    return set(re.findall(r"^ {4}([a-z][\w-]*)\b", help_text(command), re.MULTILINE))


def wrong_in(line: str) -> list[str]:
    command, *words = shlex.split(line.replace("'", "").replace('"', ""))
    if command not in COMMANDS:
        return [] if command.isupper() else [f"no command {command}"]
    if command in NODES or "--ros-args" in words:
        return []
    known = actions(command)
    action = next((word for word in words if word in known), None)
    if known and action is None and words and re.fullmatch("[a-z][a-z0-9-]*", words[0]):
        return [f"{command} has no {words[0]}"]
    helps = help_text(command) + (help_text(command, action) if action else "")
    options = set(OPTION.findall(helps)) | {"--help"}
    return [f"{command} has no {o}" for o in OPTION.findall(line) if o not in options]


def test_commands_and_options_exist(repository: Path) -> None:
    pytest.importorskip("torch")
    lines = {(page, line) for page in pages(repository) for line in command_lines(page)}
    assert len(lines) > 50
    wrong = [f"{page.name}: {line}: {w}" for page, line in lines for w in wrong_in(line)]
    assert not wrong


def test_modules_run_with_python_m_exist(repository: Path) -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in pages(repository))
    modules = set(re.findall(r"python -m (unirestore_ros(?:\.\w+)+)", text))
    assert modules
    missing = [
        m for m in modules if not repository.joinpath(*m.split(".")).with_suffix(".py").exists()
    ]
    assert not missing


def test_every_command_is_in_the_reference(repository: Path) -> None:
    text = (repository / "docs" / "reference.md").read_text(encoding="utf-8")
    commands = text.partition("\n## Commands")[2].partition("\n## ")[0]
    assert not [name for name in COMMANDS if f"`{name}`" not in commands]


def test_launch_files_and_their_arguments_exist(repository: Path) -> None:
    sources = {file.name: file.read_text() for file in (repository / "launch").glob("*.py")}
    declared = set(re.findall(r'"(\w+)"', "".join(sources.values())))
    wrong = []
    for page in pages(repository):
        text = page.read_text(encoding="utf-8").replace("\\\n", "")
        for file, rest in re.findall(r"ros2 launch unirestore_ros\s+(\S+\.py)([^\n`]*)", text):
            names = re.findall(r"(\w+):=", rest)
            unknown = [name for name in names if name not in declared]
            wrong += [f"{page.name}: {file} {name}" for name in unknown]
            wrong += [] if file in sources else [f"{page.name}: {file}"]
    assert not wrong


def test_parameters_named_on_command_lines_exist(repository: Path) -> None:
    declared = "".join(file.read_text() for file in (repository / "config").glob("*.yaml"))
    text = "".join(page.read_text(encoding="utf-8") for page in pages(repository))
    ours = re.findall(rf"(?:{'|'.join(NODES)}) --ros-args([^\n`]*)", text)
    names = {name for line in ours for name in re.findall(r"-p (\w+):=", line)}
    assert names
    assert not [name for name in names if f"    {name}:" not in declared]


def test_the_table_of_corruptions_is_that_of_the_stored_results(repository: Path) -> None:
    stored = json.loads((repository / "docs" / "results" / "quality.json").read_text())["rows"]
    psnr = {(r["corruption"], r["method"], r["task"]): r["psnr"] for r in stored}
    columns = [("degraded", None), ("classical", None), ("nafnet", None)]
    columns.append(("unirestore", "perception"))
    page = (repository / "docs" / "quality.md").read_text(encoding="utf-8")
    section = page.partition("## The restored image")[2].partition("\n## ")[0]
    rows = re.findall(r"([a-z]+_?[a-z]+) \|((?: [\d.]+ \|){4})", section)
    assert {corruption for corruption, _ in rows} == {c for c, _, _ in psnr if c}
    for corruption, figures in rows:
        expected = [psnr[corruption, method, task] for method, task in columns]
        assert [float(f) for f in figures.split("|")[:4]] == pytest.approx(expected, abs=0.006)


def blocks(repository: Path, page: str, language: str) -> list[str]:
    text = (repository / "docs" / "howto" / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def shell(*command: str, folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_prompt_is_trained_and_added(repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (program,) = blocks(repository, "add_a_task.md", "python")
    shell(sys.executable, "-c", program, folder=tmp_path)
    shutil.copytree(repository / "engines" / "tiny", tmp_path / "engines" / "tiny")
    command = blocks(repository, "add_a_task.md", "bash")[0].split()
    assert command[0] == "python"
    said = shell(sys.executable, *command[1:], folder=tmp_path)
    assert said.rstrip().endswith("detection, lanes")


def test_features_without_ros(repository: Path, tmp_path: Path) -> None:
    program = blocks(repository, "my_own_detector.md", "python")[1]
    said = shell(sys.executable, "-c", program + "\n    print(features.shape)", folder=tmp_path)
    assert said.split() == ["(90,", "120,", "48)"]


@pytest.mark.slow
def test_the_documentation_builds_without_a_warning(repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    pytest.importorskip("myst_parser")
    pytest.importorskip("torch")
    docs, html = str(repository / "docs"), tmp_path / "html"
    shell(sys.executable, "-m", "sphinx", "-q", "-W", docs, str(html), folder=repository)
    assert "open_engine" in (html / "api.html").read_text(encoding="utf-8")
