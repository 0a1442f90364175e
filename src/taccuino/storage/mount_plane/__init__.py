"""The mount plane: the root daemon that gives each user their directories on this node.

Run it with ``python -m taccuino.storage.mount_plane``; callers use
`taccuino.storage.mount_client`. Per user it holds a loop-mounted workarea (`workarea`) and
one `rclone` process (`rclone`) with the user's bucket and scratch as FUSE mounts, whose
credentials it fetches from the hub (`credentials`). `user` drives these to the wanted state
and heals them, of which `cloud` is what concerns the object storage; `plane` keeps all users
and what survives the daemon's own restart, `api` is the HTTP on the unix socket. The rest is
pure or thin: `configuration` (what rclone is told), `uploads` and `cache` (what waits for its
upload, with rclone and without), `layout` (paths and records), `kernel` (mount table and
mount calls), `faults` (errors as sentences).
"""
