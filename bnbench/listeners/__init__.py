"""They hear the events of a study and change nothing; one file for each."""
