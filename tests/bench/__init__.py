"""One command per number in the README: `python -m tests.bench [NAME ...]`."""
