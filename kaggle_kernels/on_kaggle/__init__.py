"""What runs on Kaggle: from mounted files to a submission within the time limit, without network or torch."""
