"""Dataset folder to checkpoint: training, and adaptation to the tasks of one file."""
