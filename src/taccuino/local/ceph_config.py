"""The texts that a Ceph cluster is made from: ``ceph.conf``, keyrings and keys."""

from __future__ import annotations

import base64
import secrets
import struct
import time
from collections.abc import Mapping
from pathlib import Path

__all__ = ["ceph_config", "keyring", "new_key"]


def ceph_config(
    base: Path, *, fsid: str, mon_port: int, rgw_port: int, sts_key: str, size: int
) -> str:
    """The text of ``ceph.conf``.

    Parameters
    ----------
    base
        The cluster's directory.
    sts_key
        Encrypts the session tokens that STS hands out: 16 characters (AES-128).
    size
        Bytes of the OSD's sparse file.

    Notes
    -----
    ``public addr`` and ``mon initial members`` are left out: with either, a lone monitor on a
    loopback address forms no quorum. ``rgw dns name`` is left out as well, so that RadosGW
    takes every ``Host`` for a path-style request: containers call it by another name.
    """
    return f"""\
# Written by Taccuino; a change here is lost at the next start.
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon_port}/0]
public network = 127.0.0.0/8
ms bind ipv6 = false
ms bind msgr1 = false
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
run dir = {base}/run
admin socket = {base}/run/$name.asok
pid file =
log file =
log to stderr = true
log to file = false
mon cluster log to stderr = false
mon cluster log to file = false
# One copy on one disk: there is nothing to spread the data over.
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0

[client.admin]
keyring = {base}/keyring

[mon]
keyring = {base}/mon.keyring
mon data = {base}/mon
mon allow pool size one = true
mon max pg per osd = 1000
mon pg warn min per osd = 0
mon data avail warn = 2
mon data avail crit = 1
# A lone monitor has nobody to agree with: waiting to batch changes only slows the first start.
paxos propose interval = 0.05
paxos min wait = 0.01
debug mon = 0/1
debug paxos = 0/1
debug rocksdb = 0/1

[osd]
keyring = {base}/osd/keyring
osd data = {base}/osd
osd objectstore = bluestore
bluestore block size = {size}
bluestore block create = true
bluefs buffered io = true
osd memory target = 939524096
osd memory cache min = 67108864
osd op num shards = 2
osd mon shutdown timeout = 1
# A RadosGW that was killed is waited for by the next one's writes to roles and buckets for
# as long as this (30 s by default); a living one pings every objecter tick.
osd client watch timeout = 4
osd class load list = *
osd class default list = *
debug osd = 0/1
debug bluestore = 0/1
debug bluefs = 0/1
debug bdev = 0/1
debug rocksdb = 0/1

[client.rgw]
keyring = {base}/rgw/keyring
rgw data = {base}/rgw
rgw frontends = beast endpoint=127.0.0.1:{rgw_port} tcp_nodelay=1
rgw s3 auth use sts = true
rgw sts key = {sts_key}
rgw thread pool size = 64
objecter tick interval = 1
rgw enable usage log = false
rgw dynamic resharding = false
rgw gc max objs = 8
rgw lc max objs = 8
# Earlier versions end on any day that the machine runs, not only in its first six hours.
rgw lifecycle work time = 00:00-23:59
# This gateway sees all that changes a bucket's size; what it believes is looked up this often.
rgw bucket quota ttl = 60
rgw usage max shards = 4
debug rgw = 0/1
"""


def new_key() -> str:
    """A new cephx secret, as ``ceph-authtool --gen-print-key`` makes it.

    The form is Ceph's ``CryptoKey``: type 1 (AES), the time of its creation, and 16 bytes.
    """
    key = secrets.token_bytes(16)
    header = struct.pack("<HIIH", 1, int(time.time()), 0, len(key))
    return base64.b64encode(header + key).decode()


def keyring(keys: Mapping[str, tuple[str, Mapping[str, str]]]) -> str:
    """The text of a keyring: entities with their key and their capabilities."""
    lines = []
    for entity, (key, caps) in keys.items():
        lines += [f"[{entity}]", f"\tkey = {key}"]
        lines += [f'\tcaps {service} = "{cap}"' for service, cap in caps.items()]
    return "\n".join(lines) + "\n"
