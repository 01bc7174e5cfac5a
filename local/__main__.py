"""`python -m local`: what the Makefile calls."""

from local.cli import main

main()
