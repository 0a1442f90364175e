"""The server options in JupyterHub's hooks: the form, its answer, and their use by the spawner.

``apply_user_options`` is the hook that every start passes, by form, link or REST API, before
``Spawner.start``; what it refuses is answered with 400. A posted form is checked even earlier,
so that its page can say what to change.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from tornado import web

from taccuino.errors import SettingsError
from taccuino.offers_file import load_offers, offers_path
from taccuino.settings import ImageSettings, Settings, parse_size

from .offers import INTERFACES, NotebookOptions, Offers, OptionsError, memory_label
from .preloading import preload, preload_of

__all__ = ["OptionsRefused", "ServerOptions", "offered_images"]

log = logging.getLogger(__name__)

_START_PAGES = {"lab": "/lab", "notebook": "/tree"}


def offered_images(settings: Settings) -> list[ImageSettings]:
    """The images of ``taccuino image offer``; none, and a line in the log, for a bad file."""
    try:
        return load_offers(offers_path(settings))
    except SettingsError:
        log.exception("The offered images are left out")
        return []


class ServerOptions:
    """JupyterHub's option hooks over the offers."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def offers(self, user: Any) -> Offers:
        """What JupyterHub's ``User`` may choose now, by the groups they are in now."""
        groups = [group.name for group in user.groups]
        return Offers.of(self.settings, groups, offered_images(self.settings))

    def preload(self, user: Any) -> Callable[[Any], list[str]]:
        """For the pages: what a server that is started with some options will load.

        Before the login, what is offered to everyone counts.
        """
        offers = (
            self.offers(user)
            if user
            else Offers.of(self.settings, [], offered_images(self.settings))
        )
        return lambda choice: preload(
            offers, self.settings, choice if isinstance(choice, dict) else None
        )

    def form(self, spawner: Any) -> str:
        """``Spawner.options_form``: the fields, with the last choice selected."""
        offers = self.offers(spawner.user)
        names: dict[str, Any] = {"offers": offers, "interfaces": INTERFACES.items()}
        try:
            names["chosen"] = offers.remembered(_last_choice(spawner))
        except OptionsError as error:
            names["problem"] = str(error)
        else:
            names["cpus"] = [(f"{cpus:g}", f"{cpus:g}") for cpus in sorted(offers.cpus)]
            sizes = sorted(offers.memory, key=parse_size)
            names["memory"] = [(size, memory_label(size)) for size in sizes]
            names["preload"] = {
                image.name: preload_of(self.settings, image.reference)
                for image in offers.images
            }
            names["combinations"] = {
                f"{cpus:g}": offers.memory_with(cpus) for cpus in offers.cpus
            }
        template = spawner.user.settings["jinja2_env_sync"].get_template("options_form.html")
        return str(template.render(**names))

    def from_form(
        self, form_data: Mapping[str, list[Any]], spawner: Any = None
    ) -> dict[str, Any]:
        """``Spawner.options_from_form``: the options in a posted form or in a link.

        Raises
        ------
        tornado.web.HTTPError
            400 if they are not on offer. JupyterHub gives no spawner for a link's options;
            they are checked when they are applied.
        """
        options: dict[str, Any] = {}
        for key, values in form_data.items():
            if key == "_xsrf":
                continue
            if len(values) != 1:
                problem = f"Option {key[:40]!r} is given {len(values)} times"
                raise OptionsRefused(OptionsError(problem))
            options[key] = values[0]
        if spawner is None:
            return options
        try:
            return self.offers(spawner.user).validate(options).as_user_options()
        except OptionsError as error:
            raise OptionsRefused(error) from None

    def chosen(
        self, spawner: Any, user_options: Mapping[str, Any] | None = None
    ) -> NotebookOptions:
        """The options of a start that is asked for; of one without any, the last choice.

        Raises
        ------
        OptionsRefused
            If one is not on offer, as that of the last choice may be. It is forgotten then.
        """
        offers, stored = self.offers(spawner.user), _last_choice(spawner) or {}
        asked = dict(user_options or stored)
        try:
            return offers.validate(asked)
        except OptionsError as error:
            if asked == stored:
                self._forget(spawner, offers, stored)
            raise OptionsRefused(error) from None

    def _forget(self, spawner: Any, offers: Offers, refused: Mapping[str, Any]) -> None:
        """Keep only what is on offer."""
        try:
            kept = offers.remembered(refused).as_user_options()
        except OptionsError:
            kept = {}
        spawner.orm_spawner.user_options = kept
        spawner.user.db.commit()

    def apply(self, spawner: Any, user_options: Mapping[str, Any]) -> None:
        """``Spawner.apply_user_options``: what every start of a server goes through.

        Raises
        ------
        OptionsRefused
            If an option is not on offer; the server is not started then.
        """
        chosen = self.chosen(spawner, user_options)
        spawner.user_options = spawner.orm_spawner.user_options = chosen.as_user_options()
        values = {
            "cpu_limit": chosen.cpu,
            "mem_limit": chosen.memory_bytes,
            "default_url": _START_PAGES[chosen.interface],
            "image": chosen.reference,
            "interface": chosen.interface,
            # DockerSpawner looks an image named in user_options up in here.
            "allowed_images": {chosen.image: chosen.reference},
        }
        for name, value in values.items():
            if spawner.has_trait(name):
                setattr(spawner, name, value)


class OptionsRefused(web.HTTPError):
    """Options that are not on offer, as JupyterHub's form and API answer them."""

    def __init__(self, error: OptionsError) -> None:
        super().__init__(400, "%s", str(error))
        self.jupyterhub_message = str(error)


def _last_choice(spawner: Any) -> Mapping[str, Any] | None:
    """The options of the user's last start; JupyterHub keeps them with the server."""
    choice = spawner.orm_spawner.user_options
    return choice if isinstance(choice, dict) else None
