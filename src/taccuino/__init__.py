"""Taccuino: Notebooks as a Service on top of JupyterHub."""

__version__ = "0.1.0.dev0"
