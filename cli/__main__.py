"""`python -m cli`: the same as `llm-serving`."""

import sys

from cli.main import main

sys.exit(main())
