"""`python -m unirestore_ros COMMAND`."""

import sys

from unirestore_ros.cli import ending, main

if __name__ == "__main__":
    sys.exit(ending(main()))
