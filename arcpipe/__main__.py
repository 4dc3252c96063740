"""What `python -m arcpipe` and `accelerate launch -m arcpipe` run."""

from arcpipe.cli import main

if __name__ == "__main__":
    main()
