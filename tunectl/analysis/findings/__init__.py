"""What is wrong with a study, and what to run next."""
