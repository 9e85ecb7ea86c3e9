"""`python -m framelift`."""

from framelift.cli.main import main

main()
