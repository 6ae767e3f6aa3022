"""`python -m wspilot`."""

import sys

from wspilot.cli import main

sys.exit(main())
