"""`python -m tests.fuzz NAME --seconds N`: feed a target with what atheris makes of its seeds, until something breaks.

What broke it is then a file in the folder that `--keep` names; `--again FILE` shows it once more, without atheris.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.fuzz.targets import NAMES

Check = Callable[[bytes], None]
_MOST_BYTES = 4096
_LONGEST_S = 20


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("name", choices=NAMES, help="what to fuzz")
    parser.add_argument("--seconds", type=int, default=60, help="how long")
    parser.add_argument(
        "--keep", type=Path, default=Path("fuzz-findings"), help="where findings and the corpus are put"
    )
    parser.add_argument("--again", type=Path, help="feed it this file, and nothing else")
    asked = parser.parse_args()
    if asked.again is not None:
        importlib.import_module(f"tests.fuzz.targets.{asked.name}").check(asked.again.read_bytes())
        return 0
    try:
        import atheris  # type: ignore[import-untyped,import-not-found,unused-ignore] # an extra, and not for all systems
    except ModuleNotFoundError:
        print("atheris is not installed: `pip install 'fanout[fuzz]'` (Linux, CPython 3.11 to 3.13)", file=sys.stderr)
        return 2
    with atheris.instrument_imports(include=["fanout", "tests.fuzz"]):
        target = importlib.import_module(f"tests.fuzz.targets.{asked.name}")
    corpus = asked.keep / asked.name
    corpus.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as seeds:
        for number, seed in enumerate(target.SEEDS):
            Path(seeds, str(number)).write_bytes(seed)
        atheris.Setup(
            [
                sys.argv[0], f"-max_total_time={asked.seconds}", f"-max_len={_MOST_BYTES}", f"-timeout={_LONGEST_S}",
                "-print_final_stats=1", f"-artifact_prefix={asked.keep}/{asked.name}-", str(corpus), seeds,
            ],
            target.check,
        )  # fmt: skip
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
