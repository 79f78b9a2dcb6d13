"""The verbs, one short file each: the one place where the parts are joined."""
