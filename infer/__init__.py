"""Inference: checkpoint and dataset folder -> predictions, votes, scores."""
