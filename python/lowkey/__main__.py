"""The `lowkey` command."""

import signal
import sys

from . import _lowkey


def main() -> None:
    """Runs the command with the arguments of this process."""
    # As every command has it: an interrupt ends it, unless it is a server that drains first.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(_lowkey.command(["lowkey", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
