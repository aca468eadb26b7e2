"""One module per system; each is imported in that system's own environment, see ``base``."""
