"""The submissions stage: submission.json, built, checked and scored."""
