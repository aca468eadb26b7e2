"""The HTTP contract, framework-free: what is asked becomes status, headers and body. The adapters only carry them.

``asked`` is what a request says, ``answers`` and ``problems`` are what is answered, ``access`` is who may look, and
``front`` holds what all of them share in one app. ``submit`` makes a request a job, ``job_routes`` are the routes of a
job, ``result`` replays what its handler came to, ``waiting`` and ``events`` tell of its changes.
"""
