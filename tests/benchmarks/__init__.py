"""`make bench`: the project's figures, side by side with what a user would run instead, from one run on one machine."""
