"""Every script of the experiments finds what it imports: no other test runs all of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = sorted({path.parent for path in (ROOT / "experiments").glob("*/*.py")})


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_scripts_can_be_imported(folder: Path) -> None:
    names = sorted(path.stem for path in folder.glob("*.py"))
    # In a process of their own: scripts of different folders have the same names.
    done = subprocess.run(
        [sys.executable, "-c", f"import {', '.join(names)}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
