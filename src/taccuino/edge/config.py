"""HAProxy's configuration, as text computed from the settings (HAProxy 2.6 and later).

The service's frontend looks each request's path up in the routes' map (longest prefix wins)
and sends it to the address found; everything else goes to the hub. While the hub restarts, its
requests wait instead of failing. The embedded IAM and object storage get a frontend each.

Words of HAProxy used here are explained in its configuration manual,
https://docs.haproxy.org/2.6/configuration.html.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from taccuino.front_end import URL_PREFIX
from taccuino.settings import Settings

from .sites import (
    SHARED_FILES,
    UNREACHED,
    edge_answer,
    front_door,
    hub_servers,
    known_peer,
    site_backends,
    site_cookies,
    site_rules,
    site_uses,
)
from .storage_data import STORAGE_DATA, storage_data_backend
from .words import RETRY_READS_ONLY, bind_line, is_https, needed, path_word, section

__all__ = ["IAM_COOKIES", "KEY_OF_PATH", "chroot_directory", "haproxy_config"]

IAM_COOKIES = ("taccuino-iam", "canaille_login_history")
"""The embedded IAM's cookies. Cookies ignore ports, so a browser sends them to the service too,
where users' servers would see them: they are taken out of every request there."""

KEY_OF_PATH = "path,url_dec,url_enc,regsub(%2F,/,g)"
"""What ``routemap.route_key`` does to a path, in HAProxy's words."""

HUB_RETRIES = 60
"""With one attempt each 0.5 s, a request waits up to 30 s for a hub that restarts."""

PAGES = Path(__file__).parent / "pages"
_COMPRESSED = (
    "text/html text/css text/plain text/javascript text/markdown text/csv text/xml "
    "application/javascript application/json application/manifest+json application/xml "
    "application/wasm image/svg+xml image/x-icon image/vnd.microsoft.icon"
)


def chroot_directory(settings: Settings) -> Path:
    """The empty directory that HAProxy locks itself into."""
    return settings.state_dir / "edge/chroot"


def haproxy_config(
    settings: Settings,
    *,
    iam_backend: str | None = None,
    s3_backend: str | None = None,
    jwks_file: Path | None = None,
    user: str | None = None,
    peer_secret: str = "",
    sites: Sequence[tuple[str, str]] = (),
) -> str:
    """The whole configuration.

    Parameters
    ----------
    settings
        The resolved settings: ports are known.
    iam_backend, s3_backend
        Address and port of the embedded IAM and object storage behind their frontends, which
        are left out with None. Each frontend speaks TLS if its public address (``iam.issuer``,
        ``storage.endpoint``) says https.
    jwks_file
        The embedded IAM's keys with ``x5c``, which the edge serves in the IAM's stead.
    user
        User and group HAProxy becomes after its start, locked into :func:`chroot_directory`;
        None keeps the one that starts it.
    peer_secret
        That of all sites, where the settings name peers.
    sites
        Where this edge stands before those of several sites on this machine, instead of
        before a hub: each one's name, and the address that takes the PROXY protocol.

    Raises
    ------
    EdgeError
        If a setting that is needed is missing, or can't be written into the configuration.
    """
    sections = [_global(settings, user), _BASE]
    if sites:
        sections.append(
            front_door(settings, bind_line(settings, settings.port, tls=False), sites)
        )
    else:
        hsts = settings.edge.certificate is not None and not _plain_sibling(settings)
        sections += [
            _service(settings, peer_secret, hsts=hsts),
            _backends(settings, peer_secret),
            storage_data_backend(settings, s3_backend),
        ]
    if settings.local.front_end_port:
        sections.append(_front_end(settings))
    if iam_backend is not None:
        sections.append(_iam(settings, iam_backend, jwks_file))
    if s3_backend is not None:
        sections.append(_object_storage(settings, s3_backend))
    header = "# Written by Taccuino from its settings; changes here are lost.\n"
    return header + "\n".join(sections)


def _plain_sibling(settings: Settings) -> bool:
    """Whether the IAM or the object storage is served without TLS at the service's own name."""
    own = urlsplit(settings.url).hostname
    others = [urlsplit(url or "") for url in (settings.iam.issuer, settings.storage.endpoint)]
    return any(url.scheme == "http" and url.hostname == own for url in others)


def _global(settings: Settings, user: str | None) -> str:
    socket = path_word("edge.admin_socket", settings.edge.admin_socket)
    lines = [
        "log stdout format raw local0 info",
        f"maxconn {settings.edge.max_connections}",
        # expose-fd: after a reload the new worker takes over the listening sockets.
        f"stats socket {socket} mode 600 level admin expose-fd listeners",
        "stats timeout 30s",
        # After a reload the old worker keeps its websockets for this long at most.
        "hard-stop-after 24h",
        # A request's line and headers fit into one buffer (less 1 KiB), in 101 lines.
        "tune.bufsize 16384",
        "tune.http.maxhdr 101",
        # Connections to notebook servers are kept while less than 40 % of the files are open,
        # and make way for others above 50 %: all clients find room even if none is in use.
        "tune.pool-low-fd-ratio 40",
        "tune.pool-high-fd-ratio 50",
    ]
    if user:
        chroot = path_word("state_dir", chroot_directory(settings))
        lines += [f"user {user}", f"group {user}", f"chroot {chroot}"]
    if settings.edge.certificate is not None:
        # Mozilla's intermediate profile, version 5.7.
        lines += [
            "ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets",
            (
                "ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
                "TLS_CHACHA20_POLY1305_SHA256"
            ),
            (
                "ssl-default-bind-ciphers ECDHE-ECDSA-AES128-GCM-SHA256:"
                "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
                "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:"
                "ECDHE-RSA-CHACHA20-POLY1305"
            ),
            "ssl-default-bind-curves X25519:P-256:P-384",
        ]
    return section("global", lines)


_BASE = r"""defaults base
    mode http
    log global
    # Errors only, and paths without their query, which may hold a token or a login code.
    option dontlog-normal
    option dontlognull
    log-format "%ci:%cp [%tr] %ft %b %TR/%Tw/%Tc/%Tr/%Ta %ST %B %tsc %rc %HM %[var(txn.path)]"
    # The whole of a request's headers must be here in time (slow senders hold no connection).
    timeout http-request 15s
    timeout http-keep-alive 75s
    timeout connect 5s
    timeout queue 30s
    timeout client 10m
    timeout server 10m
    timeout client-fin 30s
    # Websockets and other upgraded connections; a peer that vanished is found by TCP itself.
    timeout tunnel 24h
    option clitcpka
    clitcpka-idle 120s
    clitcpka-intvl 30s
    option abortonclose
    # Events of a start's progress are sent one by one: left to itself, the kernel waits up to
    # 200 ms for more to send along.
    option http-no-delay
    # A reload closes kept connections after their next answer, not under a request on its way.
    option idle-close-on-response
    retry-on conn-failure empty-response
"""


def _service(settings: Settings, peer_secret: str, *, hsts: bool) -> str:
    """The service itself.

    HSTS holds for every port of a host (RFC 6797, section 8.3): with it, browsers would no
    longer reach an IAM or a storage that is served without TLS at the same name.
    """
    routes = path_word("edge.routes_file", settings.edge.routes_file)
    peers_file = path_word("edge.peers_file", settings.edge.peers_file)
    tls = settings.edge.certificate is not None
    lines = [
        bind_line(settings, settings.port, tls=tls),
        *_for_load_balancers(settings),
        *_for_servers_only(settings),
        edge_answer(settings),
        "http-request set-var(txn.path) path",
        # Who knows this path reads the file: it is in no log.
        f"acl shared_file path_beg {SHARED_FILES}",
        f"http-request set-var(txn.path) str({SHARED_FILES}...) if shared_file",
        *(known_peer(peer_secret) if settings.peers else ()),
        *_WHO_ASKED,
        *_without_iam_cookies(),
        "acl password_post method POST",
        "acl password_post_path path /hub/login",
        *_login_limit(settings, "password_post password_post_path"),
        # A route is found by its path, or by host and path where users have subdomains.
        f"http-request set-var(txn.key) {KEY_OF_PATH}",
        f"http-request set-var(txn.route) var(txn.key),map_beg({routes})",
        "acl routed var(txn.route) -m found",
        "http-request set-var(txn.host) req.hdr(host),field(1,:),lower unless routed",
        (
            "http-request set-var(txn.route) "
            f"var(txn.host),concat(,txn.key),map_beg({routes}) unless routed"
        ),
        # A page among the API's calls: it lets a browser in to a server.
        "acl server_login path /hub/api/oauth2/authorize",
        *(site_rules(settings, routes, peers_file) if settings.peers else ()),
        "acl wants_json path_beg /hub/api/",
        "acl wants_json path_reg ^/(user|services)/.*/api/",
        "acl wants_json req.hdr(accept) -m beg application/json",
        *_STORAGE_DATA_RULES,
        *(site_uses(settings) if settings.peers else ()),
        *(_FRONT_END_RULES if settings.local.front_end_port else ()),
        "use_backend servers-api if routed wants_json",
        "use_backend servers if routed",
        "use_backend hub-api if wants_json !server_login",
        "default_backend hub",
        "compression algo gzip",
        f"compression type {_COMPRESSED}",
        "acl refers res.hdr(referrer-policy) -m found",
        "http-after-response set-header X-Content-Type-Options nosniff",
        (
            "http-after-response set-header Referrer-Policy strict-origin-when-cross-origin "
            "unless refers"
        ),
        "http-after-response del-header Server",
    ]
    if hsts:
        lines.append(
            "http-after-response set-header Strict-Transport-Security max-age=31536000"
        )
    return section("frontend service from base", lines)


_STORAGE_DATA_RULES = (
    # Before all routes: none can take this path.
    f"acl storage_data path_beg {STORAGE_DATA}",
    "acl presigned url_param(X-Amz-Signature) -m found",
    "acl moves_data method GET HEAD PUT",
    "http-request deny deny_status 405 if storage_data !moves_data",
    "http-request deny deny_status 403 if storage_data !presigned",
    # A user's file must never become the program that answers for a part of this origin.
    "http-request deny deny_status 403 if storage_data { req.hdr(service-worker) -m found }",
    "use_backend storage-data if storage_data",
)


_FRONT_END_RULES = (
    f"acl front_end path_beg {URL_PREFIX}",
    "use_backend front-end if front_end",
)


def _front_end(settings: Settings) -> str:
    """What serves the images' static files: they are everyone's, it learns nothing of users."""
    lines = [
        "http-request del-header Cookie",
        "http-request del-header Authorization",
        "timeout connect 500ms",
        "retries 8",
        *RETRY_READS_ONLY,
        f"server front-end 127.0.0.1:{settings.local.front_end_port}",
    ]
    return section("backend front-end from base", lines)


def _for_servers_only(settings: Settings) -> list[str]:
    """The port at which notebook servers reach the hub's API where the service speaks TLS."""
    port, networks = settings.edge.server_port, settings.engine.network_pool
    if not settings.edge.certificate or not port:
        return []
    return [
        bind_line(settings, port, tls=False),
        f"acl for_servers dst_port {port}",
        f"tcp-request connection reject if for_servers !{{ src {networks} }}",
        "http-request deny deny_status 404 if for_servers !{ path_beg /hub/api }",
    ]


_WHO_ASKED = (
    # What a client says of itself is not believed (tornado takes X-Real-IP and X-Scheme
    # first); what a peer says of its client is.
    "acl from_peer var(txn.from_peer) -m bool",
    "http-request del-header X-Forwarded -m beg unless from_peer",
    "http-request del-header Forwarded",
    "http-request del-header X-Real-IP",
    "http-request del-header X-Scheme",
    "http-request set-header X-Forwarded-For %[src] unless from_peer",
    "http-request set-header X-Forwarded-Host %[req.hdr(host)] unless from_peer",
    "http-request set-header X-Forwarded-Port %[dst_port] unless from_peer",
    "http-request set-header X-Forwarded-Proto http unless from_peer || { ssl_fc }",
    "http-request set-header X-Forwarded-Proto https if !from_peer { ssl_fc }",
)


def _for_load_balancers(settings: Settings) -> list[str]:
    """The port that takes the PROXY protocol, which anybody could tell lies with."""
    if not settings.edge.proxy_port:
        return []
    networks = " ".join(settings.edge.proxy_networks)
    bind = bind_line(
        settings, settings.edge.proxy_port, tls=settings.edge.certificate is not None
    )
    return [
        f"{bind} accept-proxy",
        (
            "tcp-request connection reject if "
            f"{{ dst_port {settings.edge.proxy_port} }} !{{ src {networks} }}"
        ),
    ]


def _without_iam_cookies() -> list[str]:
    """However often a page of a user's server has set cookies of these names."""
    ours = rf"(^|; *)({'|'.join(IAM_COOKIES)})=[^;]*"
    rest = f"%[req.fhdr(cookie),regsub('{ours}','',g),regsub('^; *','')]"
    return [
        # Few requests have them: it is quicker to look for the words first.
        f"acl iam_cookies req.fhdr(cookie) -m sub {' '.join(IAM_COOKIES)}",
        # No browser sends two such headers (RFC 6265, section 5.4).
        "http-request del-header Cookie if iam_cookies { req.fhdr_cnt(cookie) gt 1 }",
        f'http-request set-header Cookie "{rest}" if iam_cookies',
        "http-request del-header Cookie if { req.fhdr(cookie) -m len 0 }",
    ]


def _login_limit(settings: Settings, condition: str) -> list[str]:
    """Limit passwords tried from one address; many users may share one (NAT, a classroom)."""
    if not settings.edge.login_rate:
        return []
    return [
        "stick-table type ipv6 size 100k expire 2m store http_req_rate(1m)",
        f"http-request track-sc0 req.hdr_ip(x-forwarded-for,-1) if {condition}",
        (
            f"http-request deny deny_status 429 if {condition} "
            f"{{ sc_http_req_rate(0) gt {settings.edge.login_rate} }}"
        ),
    ]


def _backends(settings: Settings, peer_secret: str) -> str:
    """The hub and the notebook servers, each with error pages for people and for programs."""
    hub = f"127.0.0.1:{needed('hub.port', settings.hub.port)}"
    # A refused attempt is repeated after the connect timeout, at most one second.
    tried = ["timeout connect 500ms", *RETRY_READS_ONLY]
    held = [*tried, f"retries {HUB_RETRIES}"]
    lines_server = [
        *RETRY_READS_ONLY,
        # The map's value is address:port, where an IPv6 address has colons of its own.
        "http-request set-dst var(txn.route),field(-2,:,0)",
        "http-request set-dst-port var(txn.route),field(-1,:)",
        # To HAProxy all notebook servers are one: left to itself it keeps no more connections
        # that wait than were in use at once, and makes one anew for almost each request.
        f"server any 0.0.0.0:0 pool-low-conn {settings.edge.max_connections}",
    ]
    page = call = [*held, f"server hub {hub}"]
    backends = [
        ("servers", "html", ["retries 2", *lines_server]),
        ("servers-api", "json", ["retries 2", *lines_server]),
    ]
    if settings.peers:
        # A peer's hub stands in for a page's; of the page's calls it could only say 403.
        page = [*tried, *hub_servers(settings, hub, peer_secret)]
        here = [*site_cookies(settings), f"server here {hub}"]
        call = [*held, *here]
        asked = [*tried, "retries 1", *here]
        passed = [*_UNREACHED_RULES, *tried, "retries 3", *here]
        served = [*_UNREACHED_RULES, "timeout connect 1s", "retries 1", *lines_server]
        backends += [
            ("hub-asked", "json", asked),
            ("hub-held", "html", call),
            ("hub-passed", "html", passed),
            ("servers-passed", "html", served),
            ("servers-passed-api", "json", served),
        ]
    backends += [("hub", "html", page), ("hub-api", "json", call)]
    parts = [
        section(
            f"backend {name} from base",
            [*_error_pages(name.partition("-")[0], kind), *lines],
        )
        for name, kind, lines in backends
    ]
    if settings.peers:
        pages = _error_pages("servers", "html")
        parts.append(site_backends(settings, hub, peer_secret, pages))
    return "\n".join(parts)


_UNREACHED_RULES = (
    "http-request set-var(txn.read) bool(true) if { method GET HEAD OPTIONS }",
    "http-response set-var(txn.answered) bool(true)",
    (
        f"http-after-response set-status {UNREACHED} "
        "if { var(txn.read) -m bool } !{ var(txn.answered) -m bool }"
    ),
)


def _error_pages(name: str, kind: str) -> list[str]:
    page = path_word("the package's directory", PAGES / f"{name}.{kind}")
    media = "text/html; charset=utf-8" if kind == "html" else "application/json"
    return [
        f'http-error status {status} content-type "{media}" file {page} '
        "hdr Cache-Control no-store hdr Retry-After 3"
        for status in (502, 503, 504)
    ]


def _iam(settings: Settings, backend: str, jwks_file: Path | None) -> str:
    port = needed("local.iam_port", settings.local.iam_port)
    keys = []
    if jwks_file is not None:
        answer = f"content-type application/json file {path_word('state_dir', jwks_file)}"
        keys = [f"http-request return status 200 {answer} if {{ path /oauth/jwks.json }}"]
    frontend = [
        bind_line(settings, port, tls=is_https(settings.iam.issuer)),
        "http-request set-var(txn.path) path",
        *_WHO_ASKED,
        *keys,
        "acl password_post method POST",
        "acl protocol path_beg /oauth/ /scim/",
        *_login_limit(settings, "password_post !protocol"),
        "compression algo gzip",
        f"compression type {_COMPRESSED}",
        "default_backend iam",
    ]
    lines = [
        "timeout connect 500ms",
        "retries 20",
        *RETRY_READS_ONLY,
        f"server iam {backend}",
    ]
    return "\n".join(
        [
            section("frontend iam from base", frontend),
            section("backend iam from base", _error_pages("iam", "html") + lines),
        ]
    )


def _object_storage(settings: Settings, backend: str) -> str:
    """S3 as it came: SigV4 covers the host, the path and headers, so none is changed."""
    port = needed("local.s3_port", settings.local.s3_port)
    page = path_word("the package's directory", PAGES / "s3.xml")
    frontend = [
        bind_line(settings, port, tls=is_https(settings.storage.endpoint)),
        "http-request set-var(txn.path) path",
        # boto3 sends "Expect: 100-continue" with a PUT. Where the gateway refuses before it has
        # the body, HAProxy would take the connection's next request for it; so the edge itself
        # asks for the body. The SDKs leave the header out of the signature.
        "http-request wait-for-body time 10s at-least 1 if { req.hdr(expect) -m found }",
        "http-request del-header Expect",
        "default_backend s3",
    ]
    lines = [
        *(
            f"http-error status {status} content-type application/xml file {page}"
            for status in (502, 503, 504)
        ),
        "timeout connect 500ms",
        "timeout server 30m",
        # Clients of S3 retry by themselves, and give up waiting after a few seconds.
        "retries 8",
        "retry-on conn-failure",
        f"server s3 {backend}",
    ]
    return "\n".join(
        [
            section("frontend s3 from base", frontend),
            section("backend s3 from base", lines),
        ]
    )
