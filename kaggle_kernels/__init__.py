"""Kaggle: a bundle for an offline notebook, its rehearsal, and the client that pushes it."""
