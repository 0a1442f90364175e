"""The configuration that ``taccuino hub`` runs JupyterHub with."""

from taccuino.hub import configure
from taccuino.settings import Settings

configure(get_config(), Settings.load())  # type: ignore[name-defined]  # noqa: F821
