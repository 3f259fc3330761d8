"""Every cell of a study, tried before anything trains: its mistakes, its cautions and its engine."""
