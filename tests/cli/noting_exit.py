"""Run ``refrag_rl.pretrain`` as one of several processes, and leave its exit code in a file."""

import os
import runpy
from pathlib import Path

if __name__ == "__main__":
    try:
        runpy.run_module("refrag_rl.pretrain", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        Path(f"exit-{os.environ['RANK']}").write_text(str(end.code))
        raise
