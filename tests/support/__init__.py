"""What several test files need: a Redis of one's own, waiting without sleeping, the key-leak check."""
