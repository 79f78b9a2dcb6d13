"""What each command does: it joins the parts, and returns what the command line prints."""
