"""Whether a worker lives, is ready, and how much waits for it: for probes and autoscalers.

facts        what is true of the worker of this process      (facts.py; worker/vitals.py, worker/loop_watch.py)
probes       what follows from the facts: live, ready, started (probes.py, pure)
scale        what an autoscaler wants to know of the queues  (scale.py)
routes       path → answer, for a server or a web framework  (routes.py)
server       a small HTTP server on a thread of its own      (server.py; exchange.py speaks the protocol)
merged       one answer for several processes                (merged.py)
"""
