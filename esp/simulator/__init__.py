"""The simulated internet: DNS, mailbox providers and readers on loopback, in plain Python.

A tenant rehearses on it, the tests and the benchmarks run on it. `python -m esp.simulator` starts
it; `esp.simulator.server` starts it inside a process; `esp.simulator.client` talks to one.
"""
