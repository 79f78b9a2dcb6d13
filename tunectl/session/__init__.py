"""A study folder at work: opened, planned, trained and put into tables."""
