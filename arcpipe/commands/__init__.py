"""The command line: the `arcpipe` command, and what speaks of several rooms or of the machine."""
