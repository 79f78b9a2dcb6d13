"""The study folder, plan.jsonl and the SQLite index."""
