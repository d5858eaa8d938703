"""What ``torch.compile`` needs is asked for before anything is loaded."""

from __future__ import annotations

import shutil

import pytest

from refrag_rl.errors import UserError
from refrag_rl.modeling.compiling import require_compiler


@pytest.mark.parametrize(
    ("has_triton", "compiler", "lacking"),
    [(True, "/usr/bin/gcc", None), (False, "/usr/bin/gcc", "Triton"), (True, None, "C compiler")],
)
def test_a_gpu_needs_triton_and_a_c_compiler(
    monkeypatch: pytest.MonkeyPatch, has_triton: bool, compiler: str | None, lacking: str | None
) -> None:
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: has_triton)
    monkeypatch.setattr(shutil, "which", lambda name: compiler)
    if lacking is None:
        require_compiler("refrag.compile", "cuda")
    else:
        with pytest.raises(UserError, match=rf"refrag\.compile=true: .*{lacking}"):
            require_compiler("refrag.compile", "cuda")
