"""`python -m switchyard` is the command line."""

import os
import sys
from pathlib import Path


def main() -> None:
    """Becomes the program that came with the package."""
    program = Path(__file__).parent / "bin" / "switchyard"
    if not program.is_file():
        sys.exit(f"[python] {program}: expected the command line, got none. Reinstall the package.")
    os.execv(program, [str(program), *sys.argv[1:]])


if __name__ == "__main__":
    main()
