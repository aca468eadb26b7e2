"""The HTTP contract of background jobs, framework-free: a job becomes status, headers and body. The adapters only carry it."""
