"""Enqueues that are tied to something else: to a response, to a commit, to a row of the user's own database."""
