"""``python -m refrag_rl.inspect policy=... text=FILE budget=...``: what a policy expands in a text.

The end of the text is the next paragraph, what stands before it the prompt and the context.
``--help`` shows the settings, ``refrag_rl/conf/inspect.yaml`` explains them.
"""

from __future__ import annotations

from omegaconf import DictConfig
from rich.console import Console

from refrag_rl.commands import run_command


def inspect(config: DictConfig) -> None:
    """Read the text, print what the policies expand, and write the page.

    Args:
        config: As composed from ``refrag_rl/conf/inspect.yaml``.

    Raises:
        UserError: The config asks for something that does not exist or does not fit.
    """
    # Here, not above: --help and mistakes in the config shall not wait for the import of torch.
    from refrag_rl.inspection import read_text_file
    from refrag_rl.page.html import reader_section, write_page
    from refrag_rl.page.plain import plain
    from refrag_rl.page.terminal import reading

    console = Console(highlight=False)
    with console.status("loading model and text"):
        data, page = read_text_file(config)
    for shown in reading(data):
        console.print(shown)
    if page is not None:
        names = ", ".join(selector["name"] for selector in data["selectors"])
        write_page(page, f"{plain(config.text)}: {names}", [reader_section(data)])
        console.print(f"page: {page}", soft_wrap=True, markup=False)


if __name__ == "__main__":
    run_command(inspect, "inspect")
