"""`python -m depthaware.cli`."""

import sys

from .main import main

sys.exit(main())
