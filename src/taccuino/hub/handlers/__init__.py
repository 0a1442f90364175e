"""The HTTP calls that this service adds to JupyterHub's: thin, the logic is elsewhere.

``ready`` tells whether servers can be started; ``servers`` is what a notebook server tells the
hub and asks of it; ``server_requests`` checks requests for servers and stops those that start;
``tokens`` is the broker's door.
"""
