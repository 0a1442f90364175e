"""What runs inside the notebook server: the launcher, the agent and Jupyter's extension.

It is copied into images, so it needs the standard library only (the extension also needs
``jupyter_server``, which runs it) and imports nothing else of the package. ``launcher`` is the
image's entry point and stays the parent of Jupyter; it is also the agent, which answers the
oidc-agent protocol and the AWS SDKs' container-credentials endpoint out of what the hub's
broker hands out. ``examples`` are laid into the user's workarea, ``labextension`` is the front
end's part.
"""
