"""Check that a wheel holds the package, all of it, and nothing else."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "refrag_rl"


def main(wheel: str) -> None:
    """Compare a wheel's files with those of the checkout.

    Raises:
        SystemExit: Files are missing, or do not belong there.
    """
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    packed = {name for name in names if ".dist-info/" not in name}
    wanted = {
        str(Path("refrag_rl", path.relative_to(PACKAGE)))
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    for what, files in (("missing", wanted - packed), ("foreign", packed - wanted)):
        if files:
            sys.exit(f"{wheel}: {len(files)} {what} files, such as {sorted(files)[0]}")
    print(f"{Path(wheel).name}: {len(packed)} files, {Path(wheel).stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(sys.argv[1])
