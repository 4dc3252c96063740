"""Kaggle, in three programs.

At home `bundle` makes a bundle, and `rehearse` tries it; `folder`, `kaggle` and `submit` send and follow it.
In its notebook `run` works with `mounts` and `clock`, without network or torch.
"""
