"""`python -m fieldcast.cli`: the console script, where it is not installed."""

from fieldcast.cli import main

if __name__ == "__main__":
    main()
