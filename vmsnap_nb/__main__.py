"""``python -m vmsnap_nb``: the command line."""

import sys

from vmsnap_nb.command.main import main

if __name__ == "__main__":
    sys.exit(main())
