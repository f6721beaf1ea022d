"""What happens by the clock: one timetable, run by whichever scheduler holds the lock."""
