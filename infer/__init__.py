"""Checkpoint and dataset folder to predictions."""
