"""Points that a model of finished trials proposes: an engine in a process of its own, and the files between."""
