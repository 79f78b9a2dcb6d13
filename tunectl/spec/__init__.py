"""YAML text to a StudySpec, or errors with their line; the names and bounds of every field."""
