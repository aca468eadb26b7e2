"""The version of arq whose API this is, for code that compares it."""

VERSION = "0.28.0"
"""Of the API, not of this package: that is ``arq_web.__version__``."""
