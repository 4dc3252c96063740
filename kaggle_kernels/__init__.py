"""Entries to Kaggle's competitions.

At home, `bundle` makes a bundle, `rehearse` tries it, and `submit` sends it through `kaggle` and follows the
run.
In the notebook, `run` works with `mounts` and `clock`, without network or torch.
"""
