"""The HTTP contract, framework-free: a job becomes status, headers and body. The adapters only carry them."""
