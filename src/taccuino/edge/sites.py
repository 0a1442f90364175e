"""How the edges of several sites work together, in HAProxy's words.

A request goes to the site where its user's server runs, then to the one that its browser was
served by last, then to this one; a site whose edge or hub is known to be away is left out. What
a peer passed on is served here, so nothing goes round in circles.

- `site_rules` decides where a request goes: in the variable ``txn.site``, empty for here.
- `site_backends` are the ways to the peers, and what looks at everybody's health.
- `front_door` is what leads to the sites' edges on a machine that has several of them.

Two cookies tell what happened before: ``taccuino-site`` names the site whose hub answered
last, and ``taccuino-from`` the one that could not, for ten minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from taccuino.settings import PeerSettings, Settings

from .words import RETRY_READS_ONLY, section

__all__ = [
    "EDGE_PATH",
    "FROM_COOKIE",
    "PEER_HEADER",
    "SHARED_FILES",
    "SITE_COOKIE",
    "UNREACHED",
    "edge_answer",
    "front_door",
    "hub_servers",
    "known_peer",
    "site_backends",
    "site_cookies",
    "site_rules",
    "site_uses",
]

EDGE_PATH = "/taccuino-edge"
"""Answered by the edge itself, with the site's name: whether it can be reached."""
SITE_COOKIE = "taccuino-site"
FROM_COOKIE = "taccuino-from"
PEER_HEADER = "X-Taccuino-Peer"
"""The secret of all sites, by which a peer proves that it passes a request on."""
SHARED_FILES = "/services/storage/s/"
"""What the path of a link to a shared file begins with; then comes the site that knows it."""
_FROM_SECONDS = 600
_HEALTH = (("health", "/hub/ready"), ("alive", "/hub/health"))
"""The checks of a hub: whether it can start servers, and whether it answers."""
_ID_HERE = 1
"""In the table of who knows which token; the peers' follow."""
_DIGEST = "req.hdr(authorization),sha2(256),hex"
UNREACHED = 501
"""What a site answers a peer for a notebook server of its own that it can't connect to: then
the peer's hub tells what is. Neither Jupyter nor tornado answers it."""
_NO_JUDGE = (
    "http-response return status 503 content-type application/json hdr Retry-After 3 string "
    '\'{"status": 503, "message": "This site does not know the token, and another site can not '
    'be reached. Try again later.", "reason": "site_unavailable"}\''
)
_NO_SERVER = (
    "http-response return status 503 content-type application/json hdr Retry-After 3 string "
    '\'{"status": 503, "message": "The notebook server can not be reached: it was stopped, or '
    'its site is away. Nothing was changed.", "reason": "server_unreachable"}\''
)
"""What a hub answers with 403, as it knows nothing of the XSRF cookie of a server's page."""
_NO_LINK = (
    "http-response return status 503 content-type text/plain hdr Retry-After 3 hdr Refresh 3 "
    'string "The site that knows this link can not be reached now. Trying again..."'
)
"""What a hub answers with 404, until the storage pages are asked, which tell it better."""
_HELD_ATTEMPTS = 6
"""Attempts, one each 0.5 s, until a request for this site's hub is taken to a peer."""
_TURNS = 60
"""Attempts at both together: half a minute, or twice that where a peer takes 1.5 s for each."""


def edge_answer(settings: Settings) -> str:
    """The rule that answers at `EDGE_PATH`."""
    answer = f"return status 200 content-type text/plain string {settings.site}"
    return f"http-request {answer} if {{ path {EDGE_PATH} }}"


def site_rules(settings: Settings, routes_file: str, peers_file: str) -> list[str]:
    """The service's frontend's rules that set ``txn.site``; routes are looked up by now."""
    rules = [
        f"http-request set-var(txn.sticky) req.cook({SITE_COOKIE})",
        "acl sticks var(txn.sticky) -m found",
        "acl decided var(txn.site) -m found",
        "acl of_users path_beg /user/",
        "acl reading method GET HEAD OPTIONS",
        # Whose server is meant: that of the path, or the one that a login is for.
        "http-request set-var(txn.server) var(txn.key) if of_users",
        (
            "http-request set-var(txn.server) url_param(client_id),url_dec,"
            "regsub(^jupyterhub-user-,/user/),concat(/) if server_login"
        ),
        f"http-request set-var(txn.peer) var(txn.server),map_beg({peers_file})",
        f"acl runs_here var(txn.server),map_beg({routes_file}) -m found",
        # What a peer passed on, our own servers' calls, and questions for this site itself.
        "acl settled var(txn.from_peer) -m bool",
        "acl of_site path /hub/ready /hub/health /hub/metrics",
        "acl of_all fc_rcvd_proxy",
        "http-request set-var(txn.from_peer) bool(true) if of_site !of_all",
        f"acl settled src {settings.engine.network_pool}",
    ]
    # A user with servers at two sites gets that of the site which their browser is at.
    at_peer = " || ".join(
        f"runs_here {{ var(txn.peer) -m str {peer.name} }} "
        f"!{{ var(txn.sticky) -m str {peer.name} }}"
        for peer in settings.peers
    )
    rules.append(f"http-request set-var(txn.peer) str() if {at_peer}")
    for peer in settings.peers:
        rules += [
            f"acl edge_{peer.name} srv_is_up(site-{peer.name}/{peer.name})",
            f"acl hub_{peer.name} srv_is_up(health-{peer.name}/{peer.name})",
            f"acl alive_{peer.name} srv_is_up(alive-{peer.name}/{peer.name})",
            # Its edge leads to a server; it is its hub that lets somebody in there.
            f"acl server_at_{peer.name} var(txn.peer) -m str {peer.name}",
            (
                f"http-request set-var(txn.site) str({peer.name}) if !settled "
                f"server_at_{peer.name} edge_{peer.name} !server_login || !settled "
                f"server_at_{peer.name} alive_{peer.name} server_login || !settled "
                f"{{ path_beg {SHARED_FILES}{peer.name}/ }} edge_{peer.name}"
            ),
        ]
    # A login ends where it began, also at a hub that can start no servers: whoever has one
    # there would be sent back and forth.
    rules += [
        f"acl hub_here srv_is_up(health-{settings.site}/here)",
        f"acl alive_here srv_is_up(alive-{settings.site}/here)",
        "acl login path /hub/login /hub/oauth_login /hub/oauth_callback",
        "acl stays var(txn.stays) -m bool",
        (
            "http-request set-var(txn.stays) bool(true) "
            f"if login {{ var(txn.sticky) -m str {settings.site} }} alive_here || "
            "server_login runs_here !decided alive_here || "
            f"{{ path_beg {SHARED_FILES}{settings.site}/ }}"
        ),
        *(
            f"http-request set-var(txn.site) str({peer.name}) if !settled !decided login "
            f"{{ var(txn.sticky) -m str {peer.name} }} alive_{peer.name}"
            for peer in settings.peers
        ),
    ]
    # The storage pages are a route of each site: those of the hub that the browser is at.
    free = "!settled !decided !routed", "!settled !decided !of_users"
    for peer in settings.peers:
        sticks = f"{{ var(txn.sticky) -m str {peer.name} }} hub_{peer.name}"
        when = " || ".join(f"{one} !stays {sticks}" for one in free)
        rules.append(f"http-request set-var(txn.site) str({peer.name}) if {when}")
    for peer in settings.peers:
        # A program may be here before the news that its server runs at a peer.
        rules.append(
            f"http-request set-var(txn.site) str({peer.name}) if !settled !decided !routed "
            f"of_users !sticks edge_{peer.name}"
        )
    for peer in settings.peers:
        # The last healthy site is never taken out: with no hub known to be well, it is ours.
        when = " || ".join(f"{one} !stays !hub_here hub_{peer.name}" for one in free)
        rules.append(f"http-request set-var(txn.site) str({peer.name}) if {when}")
    # A token is known where it was made, whatever a cookie says.
    rules += [
        "acl with_token req.hdr(authorization) -m reg -i ^(token|bearer)",
        f"http-request set-var(txn.owner) {_DIGEST},table_server_id(hub-token) if with_token",
    ]
    return rules


def known_peer(secret: str) -> list[str]:
    """Rules that tell what a peer passed on: first of all, and of nobody else."""
    return [
        (
            "http-request set-var(txn.from_peer) bool(true) "
            f"if {{ req.hdr({PEER_HEADER}) -m str {secret} }}"
        ),
        f"http-request del-header {PEER_HEADER}",
    ]


def site_uses(settings: Settings) -> list[str]:
    """Which backend takes what goes to a peer, and API calls with a token of unknown origin."""
    return [
        # Whoever asks how this site is wants to know it now.
        "use_backend hub-asked if !of_all of_site",
        # What was passed on once stays: while all hubs are away nothing goes round. Our own
        # servers' calls stay too: a peer's hub knows nothing of their tokens.
        "use_backend hub-api if settled !routed wants_json !server_login",
        "use_backend hub-passed if from_peer !routed reading",
        "use_backend hub-held if settled !routed",
        "use_backend servers-passed-api if from_peer routed wants_json",
        "use_backend servers-passed if from_peer routed",
        "acl for_program path_beg /hub/api/",
        f"acl token_here var(txn.owner) -m int {_ID_HERE}",
        "use_backend hub-api if !settled with_token for_program token_here",
        *(
            f"use_backend site-{peer.name} if !settled with_token for_program "
            f"{{ var(txn.owner) -m int {number} }}"
            for number, peer in enumerate(settings.peers, _ID_HERE + 1)
        ),
        "use_backend hub-token if !settled with_token for_program",
        *(
            f"use_backend site-{peer.name} if {{ var(txn.site) -m str {peer.name} }}"
            for peer in settings.peers
        ),
    ]


def hub_servers(settings: Settings, hub: str, secret: str) -> list[str]:
    """The hub in its backend, and the peers that stand in for it after some seconds."""
    return [
        *site_cookies(settings),
        f"retries {_TURNS}",
        f"option redispatch {_HELD_ATTEMPTS}",
        f"retry-on conn-failure empty-response {UNREACHED}",
        f"http-request set-header {PEER_HEADER} {secret}",
        # It is asked in any case: only of a peer it is known whether it can be reached.
        "use-server here if TRUE",
        f"server here {hub}",
        *(_server(peer) for peer in settings.peers),
    ]


def site_cookies(settings: Settings) -> list[str]:
    """Rules of a backend whose hub may stand in for another's, or for a server.

    They tell the browser which site's hub answered, and for which.
    """
    secure = "; Secure" if settings.url.startswith("https:") else ""
    ends = f"HttpOnly; SameSite=Lax{secure}"
    here = f'"{SITE_COOKIE}={settings.site}; Path=/; {ends}"'
    rules = [
        # A program with a token is at no site.
        "http-request set-var(txn.program) bool(true) if { req.hdr(authorization) -m found }",
        "acl program var(txn.program) -m bool",
        "acl answered_here srv_name here",
        (
            "http-request set-var(txn.changes) bool(true) "
            "if { path_beg /user/ } !{ method GET HEAD OPTIONS }"
        ),
        f"{_NO_SERVER} if answered_here {{ var(txn.changes) -m bool }} {{ status 403 }}",
        f"acl names_site res.cook({SITE_COOKIE}) -m found",
        f"acl at_home var(txn.sticky) -m str {settings.site}",
    ]
    for peer in settings.peers:
        lost = f'"{FROM_COOKIE}={peer.name}; Path=/; Max-Age={_FROM_SECONDS}; {ends}"'
        rules.append(
            f"http-response add-header Set-Cookie {lost} "
            f"if answered_here !names_site !program {{ var(txn.sticky) -m str {peer.name} }}"
        )
    rules.append(
        f"http-response add-header Set-Cookie {here} "
        "if answered_here !at_home !names_site !program"
    )
    return rules


def site_backends(settings: Settings, hub: str, secret: str, pages: Sequence[str]) -> str:
    """The ways to the peers, and the checks of everybody's health.

    Parameters
    ----------
    hub
        Address and port of this site's hub.
    secret
        That of all sites.
    pages
        Lines with the error pages.
    """
    sections = []
    for peer in settings.peers:
        lines = [
            *pages,
            "timeout connect 500ms",
            # After two attempts it is this site's own hub's turn, which tells what happened;
            # while that is away too, a request waits for whichever is back first.
            f"retries {_TURNS}",
            "option redispatch 2",
            f"retry-on conn-failure empty-response {UNREACHED}",
            *RETRY_READS_ONLY,
            *_check(EDGE_PATH, peer.url),
            *site_cookies(settings),
            f"{_NO_JUDGE} if program answered_here {{ status 403 }}",
            f"http-request set-var(txn.link) bool(true) if {{ path_beg {SHARED_FILES} }}",
            f"{_NO_LINK} if answered_here {{ var(txn.link) -m bool }}",
            f"http-request set-header {PEER_HEADER} {secret}",
            f"use-server {peer.name} if TRUE",
            _server(peer, _checks(settings)),
            f"server here {hub}",
        ]
        sections.append(section(f"backend site-{peer.name} from base", lines))
        for kind, path in _HEALTH:
            lines = [
                *_check(path, peer.url, secret),
                "timeout check 2s",
                _server(peer, _checks(settings, kind)),
            ]
            sections.append(section(f"backend {kind}-{peer.name} from base", lines))
    for kind, path in _HEALTH:
        lines = [*_check(path, settings.url), "timeout check 2s"]
        lines.append(f"server here {hub} {_checks(settings, kind)}")
        sections.append(section(f"backend {kind}-{settings.site} from base", lines))
    sections.append(section("backend hub-token from base", _token(settings, hub, secret)))
    return "\n".join(sections)


def _token(settings: Settings, hub: str, secret: str) -> list[str]:
    """API calls with a token: only the hub that made it knows it.

    A hub answers 403 to a token that it does not know; then the next one is asked. Who did what
    it was asked for is remembered by the token's digest, and asked alone from then on.
    """
    asked = [f"alive-{settings.site}/here"]
    for peer in settings.peers:  # its hub, by its edge
        asked += [f"alive-{peer.name}/{peer.name}", f"site-{peer.name}/{peer.name}"]
    away = " || ".join(f"{{ status 403 }} !{{ srv_is_up({one}) }}" for one in asked)
    return [
        "stick-table type string len 64 size 100k expire 1h",
        f"http-request set-var(txn.token) {_DIGEST}",
        # Anybody is answered at the API's root.
        "http-request set-var(txn.anybody) bool(true) if { path /hub/api/ }",
        "acl for_anybody var(txn.anybody) -m bool",
        "stick store-response var(txn.token) if { status 200:299 } !for_anybody",
        f"{_NO_JUDGE} if {away}",
        "option http-buffer-request",
        "timeout connect 500ms",
        # An even number: of two sites, the one that was asked first has the last word.
        f"retries {2 * len(settings.peers)}",
        "option redispatch 1",
        "retry-on conn-failure 403",
        f"http-request set-header {PEER_HEADER} {secret}",
        f"server here {hub} id {_ID_HERE}",
        *(
            f"{_server(peer)} id {number}"
            for number, peer in enumerate(settings.peers, _ID_HERE + 1)
        ),
    ]


def _check(path: str, url: str, secret: str | None = None) -> list[str]:
    host = urlsplit(url).netloc
    known = f" hdr {PEER_HEADER} {secret}" if secret else ""
    return [
        "option httpchk",
        f"http-check send meth GET uri {path} ver HTTP/1.1 hdr Host {host}{known}",
        "http-check expect status 200",
    ]


def _checks(settings: Settings, kind: str = "") -> str:
    """A check's words: a slow or wrong answer alone takes nobody out.

    A hub that answers again is known at once. It sends to its login who has a server there,
    and whoever is taken to another one's is sent back and forth until then.
    """
    sites = settings.sites
    every = round(1000 * sites.check_seconds)
    back = "downinter 200ms rise 1" if kind == "alive" else f"rise {sites.rise}"
    return f"check inter {every}ms fall {sites.fall} {back}"


def _server(peer: PeerSettings, checks: str = "") -> str:
    """A peer's edge; an entry without checks takes the result of the edge's own."""
    url = urlsplit(peer.url)
    tls = url.scheme == "https"
    port = url.port or (443 if tls else 80)
    words = [f"server {peer.name} {url.hostname}:{port}"]
    if tls:
        words.append(f"ssl verify required ca-file @system-ca sni str({url.hostname})")
        words.append("alpn http/1.1")
    words.append(checks or f"track site-{peer.name}/{peer.name}")
    words.append("on-marked-down shutdown-sessions")
    return " ".join(words)


def front_door(settings: Settings, bind: str, sites: Sequence[tuple[str, str]]) -> str:
    """What stands at the address of several sites on one machine.

    It is what a load balancer before data centres would be: a client goes to the site that its
    cookie names, or to the one that its address belongs to, while that can be reached. With a
    certificate it sees no cookies, as the TLS is the sites' own.

    Parameters
    ----------
    bind
        The line that listens, without TLS.
    sites
        Each one's name, and the address where its edge takes the PROXY protocol.
    """
    sealed = settings.edge.certificate is not None
    defaults = [
        f"mode {'tcp' if sealed else 'http'}",
        "log global",
        "option dontlog-normal",
        "option dontlognull",
        f"timeout client {'24h' if sealed else '10m'}",
        f"timeout server {'24h' if sealed else '10m'}",
        "timeout tunnel 24h",
        "timeout connect 500ms",
        "option clitcpka",
        *(() if sealed else ("timeout http-request 15s", "option http-no-delay")),
    ]
    backend = [
        "balance source",
        "hash-type consistent",
        *_check(EDGE_PATH, settings.url),
        "retries 2",
        "option redispatch 1",
        (
            "default-server send-proxy-v2 check-send-proxy check inter 500ms fall 3 rise 1 "
            f"on-marked-down shutdown-sessions{' check-ssl verify none' if sealed else ''}"
        ),
    ]
    for name, address in sites:
        if not sealed:
            backend.append(f"use-server {name} if {{ req.cook({SITE_COOKIE}) -m str {name} }}")
        backend.append(f"server {name} {address}")
    return "\n".join(
        [
            section("defaults door", defaults),
            section("frontend address from door", [bind, "default_backend sites"]),
            section("backend sites from door", backend),
        ]
    )
