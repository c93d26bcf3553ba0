"""What the documents tell a reader to type is typed here."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom.data import get_testdata_file

from medrail.arguments import build_parser
from medrail.read import read

REPOSITORY = Path(__file__).resolve().parents[2]
READMES = ("README.md", "README.zh-CN.md")
PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")])
BIN = Path(sys.executable).parent
LIMIT_S = 300


def fenced(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def commands(path: Path) -> list[list[str]]:
    """Every `medrail ...` line of a page's console blocks, without its comment."""
    lines = [line for block in fenced(path.read_text(encoding="utf-8"), "console") for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("medrail ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_documented_command_is_one_that_the_parser_takes(page):
    for command in commands(page):
        assert build_parser().parse_args(command[1:]).verb


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_relative_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("readme", READMES)
def test_make_knows_the_targets_that_the_readme_names(readme):
    for target in set(re.findall(r"^make ([a-z-]+)", (REPOSITORY / readme).read_text(encoding="utf-8"), re.MULTILINE)):
        planned = subprocess.run(
            ["make", "-n", "-o", ".venv/.ready", target], cwd=REPOSITORY, capture_output=True, text=True, check=True
        )
        assert planned.stdout, target


def write_head(path: Path, rng: np.random.Generator) -> None:
    """A bright ball in noise, and its mask: 24 x 26 x 28 voxels of 2 mm."""
    shape = (28, 26, 24)
    centre = np.array(shape) / 2 + rng.uniform(-2, 2, 3)
    distance = np.linalg.norm(np.indices(shape).transpose(1, 2, 3, 0) - centre, axis=-1)
    ball = distance < rng.uniform(6, 9)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    voxels = (rng.normal(100, 10, shape) + 200 * ball).astype(np.int16)
    for folder, data in (("images", voxels), ("masks", ball.astype(np.uint8))):
        (path / folder).mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(data, affine), path / folder / f"p{len(list((path / folder).iterdir()))}.nii.gz")


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder as the README's reader has it: scans/ with images and masks, scan.nii.gz, and a DICOM series/."""
    folder = tmp_path_factory.mktemp("desk")
    rng = np.random.default_rng(0)
    for _ in range(8):
        write_head(folder / "scans", rng)
    (folder / "scan.nii.gz").write_bytes((folder / "scans" / "images" / "p0.nii.gz").read_bytes())
    (folder / "series").mkdir()
    (folder / "series" / "IM0001").write_bytes(Path(get_testdata_file("CT_small.dcm")).read_bytes())
    return folder


@pytest.mark.slow
def test_the_readmes_commands_run_in_their_order(desk):
    typed = commands(REPOSITORY / "README.md")
    raw = ["inspect", "check", "check", "convert", "deidentify"]
    assert [command[1] for command in typed] == ["init", "check", "prepare", "run", "predict", "serve", *raw]
    assert typed == commands(REPOSITORY / "README.zh-CN.md")
    for _, verb, *arguments in typed:
        if verb == "serve":
            answers_within_its_limit(desk, arguments)
        else:
            done = subprocess.run(
                [BIN / "medrail", verb, *arguments], cwd=desk, capture_output=True, text=True, timeout=LIMIT_S
            )
            assert done.returncode == 0, f"{verb}: {done.stdout}{done.stderr}"
            assert "Traceback" not in done.stderr
    assert (desk / "answers" / "predictions.csv").is_file()
    assert (desk / "answers" / "scan_mask.nii.gz").is_file()
    assert (desk / "my-project" / "cases-fixed.csv").is_file()
    assert read(desk / "volume.nii.gz").grid == (1, 128, 128)
    assert len(list((desk / "clean").rglob("*.nii.gz"))) == 16
    for snippet in fenced((REPOSITORY / "README.md").read_text(encoding="utf-8"), "python"):
        subprocess.run([sys.executable, "-c", snippet], cwd=desk, check=True)


def answers_within_its_limit(desk: Path, arguments: list[str]) -> None:
    command = [BIN / "medrail", "serve", *arguments, "--port", "0"]
    with subprocess.Popen(command, cwd=desk, stdout=subprocess.PIPE, text=True) as server:
        try:
            wait_for_the_page(server)
        finally:
            server.terminate()


def wait_for_the_page(server: subprocess.Popen[str]) -> None:
    begin = time.monotonic()
    for line in server.stdout:
        found = re.search(r"page\s+(http://\S+)", line)
        if found:
            with urllib.request.urlopen(f"{found[1]}readyz", timeout=10) as answer:
                assert answer.status == 200
            return
        assert time.monotonic() - begin < LIMIT_S
    pytest.fail("the service ended without saying where it is")
