"""The study language: YAML text to a study, or problems with their places; what is doubtful in its design."""
