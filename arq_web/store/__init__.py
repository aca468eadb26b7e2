"""The only place that speaks Redis: keys, record, scripts, connection, and the verbs of a queue (``Store``)."""
