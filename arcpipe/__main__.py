"""What `python -m arcpipe` and `accelerate launch -m arcpipe` run."""

from arcpipe.commands.cli import main

if __name__ == "__main__":
    main()
