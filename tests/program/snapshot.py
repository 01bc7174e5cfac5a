"""Rewrites the list of resource names of each stack that the tests compare with: `python -m tests.program.snapshot`."""

import json

from tests.program.test_program import SNAPSHOT, STACKS, keys, run

if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps({stack: keys(run(stack)) for stack in STACKS}, indent=1) + "\n")
