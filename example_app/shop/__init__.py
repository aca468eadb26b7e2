"""The shop itself. Knows no web framework: both front doors and the worker use it as it is."""
