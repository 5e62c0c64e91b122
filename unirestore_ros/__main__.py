"""`python -m unirestore_ros COMMAND`."""

import sys

from unirestore_ros.cli import ignore_signals, main

if __name__ == "__main__":
    sys.exit(ignore_signals(main()))
