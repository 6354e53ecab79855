"""`python -m foretell` is the command line."""

from foretell.app.cli import main

if __name__ == "__main__":
    main()
