"""What each change of a network of the zoo does to its answers: `python3 -m train.distort <name>` in models/ runs `lowkey distort`."""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys

MODELS = pathlib.Path(__file__).parent.parent


def main():
    parser = argparse.ArgumentParser(prog="python3 -m train.distort", description=__doc__)
    parser.add_argument("name", help="a network of the zoo, or a file")
    parser.add_argument("-o", "--output", type=pathlib.Path, help="where the measurements go; target/zoo/<name>.json unless given")
    parser.add_argument("--lowkey", default=os.environ.get("LOWKEY", "lowkey"), help="the command")
    options, further = parser.parse_known_args()
    if shutil.which(options.lowkey) is None:
        sys.exit(f"{options.lowkey}: no such command; name it with --lowkey, or build it with cargo")
    output = options.output or MODELS.parent / "target" / "zoo" / f"{pathlib.Path(options.name).stem}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    command = [options.lowkey, "distort", options.name, "-o", str(output), *further]
    sys.exit(subprocess.run(command).returncode)


if __name__ == "__main__":
    main()
