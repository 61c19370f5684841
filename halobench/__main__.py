"""`python -m halobench` is the command line."""

import sys

from halobench.cli import main

sys.exit(main())
