"""``python -m optishield``."""

import sys

from optishield.cli import main

sys.exit(main())
