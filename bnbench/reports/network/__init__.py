"""What was found and done in somebody's network, on a terminal and as documents."""
