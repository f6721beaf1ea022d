"""Jobs: rows that say what is to be done, who does it and how it ended. The database is the truth, Redis only wakes."""
