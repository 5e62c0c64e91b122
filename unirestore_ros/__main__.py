"""`python -m unirestore_ros COMMAND`."""

import sys

from unirestore_ros.commands import ending, main

if __name__ == "__main__":
    sys.exit(ending(main()))
