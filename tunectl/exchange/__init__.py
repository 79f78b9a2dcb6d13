"""Other tools' formats: a study written for them, and theirs read; each tool's library enters by its own file."""
