"""Kaggle, in three programs.

At home `bundle` makes a bundle and `rehearse` tries it; `submit` sends and follows it through `kaggle`.
In its notebook `run` works with `mounts` and `clock`, without network or torch.
"""
