"""One file a command: parse, call one function of study, print, return an exit code."""
