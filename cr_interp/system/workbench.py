"""Open the workbench from anywhere: a checkout or an installed package.

Mental model: the app is a script that Streamlit runs; :func:`serve` starts Streamlit on it, in a process of its own. A study's
folder may be named: the folder above it is then one of those in which studies are looked for.
"""

import os
import subprocess
import sys
from pathlib import Path

from cr_interp.errors import UserError
from cr_interp.study.places import MANIFEST, is_study
from cr_interp.study.searching import find_studies, search_paths
from cr_interp.system.house import house


def serve(study: str | None, port: int) -> None:
    """Run the server until it ends. Raises :class:`UserError` for a study that cannot be found."""
    environment = dict(os.environ)
    where = f"http://127.0.0.1:{port}"
    if study is not None:
        name = study
        if is_study(Path(study)):
            folder = Path(study).resolve()
            name = folder.name
            own = [str(folder.parent), *map(str, search_paths()[:-1])]
            environment["CR_INTERP_STUDIES"] = os.pathsep.join(own)
        elif study not in find_studies():
            raise UserError(
                f"There is no study '{study}': neither a folder with a {MANIFEST} nor one of those that "
                f"`cr-interp studies` lists."
            )
        where += f"/?study={name}"
    print(f"The workbench: {where}", flush=True)
    command = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        str(house() / "app" / "main.py"),
        f"--server.port={port}",
        # What is typed is above variables of the environment, which may be meant for another app.
        "--server.enableCORS=true",
        "--server.enableXsrfProtection=true",
        "--server.enableStaticServing=false",
    ]
    ended = subprocess.run(command, env=environment, check=False).returncode
    if ended:
        raise SystemExit(ended)
