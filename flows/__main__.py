"""`python -m flows` is the `stockpot` command."""

from flows.cli import main

if __name__ == "__main__":
    main()
