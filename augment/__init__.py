"""Raw puzzles to a dataset folder."""
