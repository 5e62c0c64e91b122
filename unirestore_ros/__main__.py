"""`python -m unirestore_ros COMMAND`."""

import sys

from unirestore_ros.commands import main

if __name__ == "__main__":
    sys.exit(main())
