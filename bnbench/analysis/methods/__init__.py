"""Statistics: intervals, resampling, sequential tests, power."""
