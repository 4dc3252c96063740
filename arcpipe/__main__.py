"""The entry point of `python -m arcpipe` and `accelerate launch -m arcpipe`."""

from arcpipe.commands.cli import main

if __name__ == "__main__":
    main()
