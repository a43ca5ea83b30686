"""The command line: `main` holds the table of verbs, each file beside it a group of them."""
