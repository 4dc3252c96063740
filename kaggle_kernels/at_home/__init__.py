"""What runs before an entry goes to Kaggle: making a bundle, rehearsing it, simulating an entry."""
