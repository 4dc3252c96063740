"""What talks to Kaggle: pushing a bundle, following its run, submitting it once."""
