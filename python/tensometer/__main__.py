"""`python -m tensometer`."""

import sys

from tensometer.cli import main

sys.exit(main())
