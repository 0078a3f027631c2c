"""`gencourse gradescope`: the archive that makes Gradescope grade an exercise.

Gradescope runs an autograder as root in a container of its own for each hand-in, in which bubblewrap cannot make namespaces. The
worker then runs without it, under a user of its own, with the same limits and the same filter on system calls: no network
connection, no other process or program, bounded memory and time. What it loses is said in the archive's README.
"""

from __future__ import annotations

import io
import secrets
import zipfile
from pathlib import Path

import gencourse
from gencourse import checkpoint
from gencourse.grading import questions

_PACKAGE = Path(gencourse.__file__).parent
_DATE = (1980, 1, 1, 0, 0, 0)  # the same archive from the same sources

README = """Autograder for exercise {number}, made by `gencourse gradescope {number}`.

Upload this archive as it is: Configure Autograder, Zip file upload; base image Ubuntu 22.04 or newer. Building it takes some
minutes, most of them for PyTorch. Give the container at least 3 GB of memory, and set the autograder's timeout to 10 minutes.
Every hand-in is one notebook; students see their marks and the sentences that help as soon as it is graded.

How students' code is kept apart. Here it runs in a process of its own, under a user that may not read /autograder/source
(the checks and the secret), with limits on memory, time, files and threads, and without the system calls for network, other
processes and other programs. The marks are made by the grader from numbers that it asks for.

What is weaker than `gencourse grade`, which uses bubblewrap: the process sees the container's own files, its process list and
whatever is readable by everyone there. Nothing of other students is in the container. If the container does not run as root,
the process has the grader's user and could read the checks and the secret. Where it matters, download the submissions and
grade them with `gencourse grade`.

Keep this archive to yourself: it holds the right answers, and the secret that inputs are drawn from. The same archive gives a
hand-in the same marks each time.
"""

SETUP = """#!/usr/bin/env bash
set -e
apt-get update -qq
install() { DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@"; }
python=python3
install python3 python3-venv
if ! python3 -c "import sys; sys.exit(sys.version_info < (3, 11))"; then  # Ubuntu 22.04 has a newer one beside it
    python=python3.11
    install python3.11 python3.11-venv
fi
"$python" -m venv /opt/grader
/opt/grader/bin/pip install --quiet "torch>=2.6" "numpy>=1.26" "scipy>=1.11" "scikit-learn>=1.4" "matplotlib>=3.8" \\
    tqdm typer pooch lightning-fabric
chmod 700 /autograder/source
"""

RUN = """#!/usr/bin/env bash
cd /
chmod 700 /autograder/source
PYTHONPATH=/autograder/source OMP_NUM_THREADS=1 /opt/grader/bin/python -m gencourse.grading.gradescope {number}
"""


def archive(number: str, out: Path, secret: bytes | None = None) -> Path:
    """Write the archive and return its path.

    Args:
        number: of the exercise, `"09"`.
        out: the file to write.
        secret: what inputs are drawn from; by default a new one.

    Raises:
        ValueError: if there is no such exercise.
    """
    questions.of_exercise(number)
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as zipped:

        def add(name: str, content: bytes, mode: int = 0o644) -> None:
            about = zipfile.ZipInfo(name, _DATE)
            about.external_attr = mode << 16
            about.compress_type = zipfile.ZIP_DEFLATED
            zipped.writestr(about, content)

        add("README.txt", README.format(number=number).encode())
        add("setup.sh", SETUP.encode(), 0o755)
        add("run_autograder", RUN.format(number=number).encode(), 0o755)
        add("secret", secret or secrets.token_hex(32).encode(), 0o600)
        for path in sorted(_PACKAGE.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                add(f"gencourse/{path.relative_to(_PACKAGE).as_posix()}", path.read_bytes())
    checkpoint.write_atomically(out, held.getvalue())
    return out


def main(number: str, base: Path = Path("/autograder")) -> None:
    """What runs inside the container: grade the one hand-in, write `results/results.json`."""
    import json

    from gencourse.grading import report, sandbox
    from gencourse.grading.conversation import Limits
    from gencourse.grading.grade import grade, read_secret

    about = base / "submission_metadata.json"
    who = "student"
    if about.is_file():
        users = json.loads(about.read_text()).get("users") or [{}]
        who = str(users[0].get("email") or users[0].get("id") or who)
    if problem := sandbox.root_problem():
        checkpoint.write_json(base / "results" / "results.json", {"output": f"Not graded: {problem}"})
        raise SystemExit(problem)
    secret = read_secret(base / "source" / "secret") + who.casefold().encode()
    records = grade(base / "submission", number, base / "results" / "kept", jobs=1, limits=Limits(), secret=secret, shut_in=False)
    best = report.by_student([{**record, "student": who} for record in records])[0][0]
    checkpoint.write_json(base / "results" / "results.json", report.gradescope({**best, "sandbox": True}))


if __name__ == "__main__":
    import sys

    main(sys.argv[1])
