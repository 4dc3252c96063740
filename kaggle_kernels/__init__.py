"""Kaggle in three programs: `at_home` makes a bundle, `client` sends it, `on_kaggle` runs there."""
