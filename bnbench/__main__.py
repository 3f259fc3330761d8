"""`python -m bnbench`."""

from bnbench.cli.app import main

main()
