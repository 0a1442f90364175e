# Shell code that the scripts share; sourced, with the checkout as the working directory.

export PIP_DISABLE_PIP_VERSION_CHECK=1
export DEBIAN_FRONTEND=noninteractive
# Byte code is written, whatever the shell says: without it the hub starts twice as slowly.
unset PYTHONDONTWRITEBYTECODE

venv=.venv

# What the service needs from Debian.
service_packages=(
    bubblewrap ca-certificates catatonit ceph-mon ceph-osd conmon curl e2fsprogs fuse3 haproxy iproute2 iptables
    libnginx-mod-http-brotli-static libnginx-mod-http-lua mmdebstrap mount netavark nftables nginx podman procps radosgw restic runc uidmap util-linux
)
browser_packages=(chromium fonts-dejavu-core)
# The integration tests run a Docker of their own. One that is installed will do: Debian's would
# displace another maker's.
integration_packages=()
command -v dockerd >/dev/null || integration_packages=(docker.io)

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

need_root() {
    [ "$(id -u)" = 0 ] || die "run it as root: it installs packages, mounts and runs containers"
}

# aside COMMAND...: begins it, with its output in a log, to be waited for by `finish`. As a
# background job it stops at its first failure (`set -e`), which no condition switches off.
aside() {
    aside_log=$(mktemp "${TMPDIR:-/tmp}/taccuino-step.XXXXXX")
    "$@" >"$aside_log" 2>&1 </dev/null &
    aside_job=$!
}

# finish NAME LOG JOB [BEGAN]: waits for a job; says how long it took, or shows its log's end.
# Steps are numbered up to $steps.
step_number=0
finish() {
    local name=$1 log=$2 job=$3 began=${4:-$SECONDS}
    step_number=$((step_number + 1))
    printf '[%d/%d] %s ... ' "$step_number" "$steps" "$name"
    if wait "$job"; then
        printf '%d s\n' $((SECONDS - began))
        rm -f "$log"
    else
        printf 'failed after %d s\n' $((SECONDS - began))
        tail -n 25 "$log" >&2
        die "$name failed; the whole log is $log"
    fi
}

# step NAME COMMAND...: runs it.
step() {
    local name=$1 aside_log aside_job
    shift
    aside "$@"
    finish "$name" "$aside_log" "$aside_job"
}

# The first Python that is new enough.
find_python() {
    local candidate
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    die "Python 3.11 or newer is not there; install it: apt-get install python3"
}

# has_venv PYTHON: Debian's Python comes without what a virtual environment needs.
has_venv() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null
}

# missing_packages NAME...: those that are not installed.
missing_packages() {
    local name
    for name in "$@"; do
        dpkg-query --show --showformat '${db:Status-Status}\n' "$name" 2>/dev/null |
            grep -qx installed || printf '%s\n' "$name"
    done
}

# install_packages NAME...: installs them; their own services are not started meanwhile, since
# `taccuino up` runs each program with a configuration of its own. A subshell, for its own traps.
install_packages() (
    command -v apt-get >/dev/null || die "there is no apt-get; Debian 12 or newer is needed"
    # A source that has nothing to do with us may be broken: installing tells if one matters.
    apt-get update || echo "apt-get update met errors; going on with what it has"
    policy=/usr/sbin/policy-rc.d
    # One with the mark is of a run that was killed.
    if [ ! -e "$policy" ] || grep -qx '# taccuino' "$policy"; then
        trap 'rm -f "$policy"' EXIT
        # They come when apt-get has ended.
        trap 'exit 1' HUP INT TERM
        printf '#!/bin/sh\n# taccuino\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    apt-get install --yes --no-install-recommends "$@"
)

# ensure_packages NAME...: a step that is skipped when nothing is missing.
ensure_packages() {
    local missing
    mapfile -t missing < <(missing_packages "$@")
    [ "${#missing[@]}" = 0 ] || install_packages "${missing[@]}"
}

# ensure_venv: makes the virtual environment when the lock changed.
ensure_venv() {
    local stamp=$venv/.lock-hash wanted python
    wanted=$(sha256sum requirements.lock pyproject.toml | sha256sum | cut -d' ' -f1)
    if [ -x "$venv/bin/taccuino" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    python=$(find_python)
    if ! has_venv "$python"; then
        need_root
        ensure_packages python3-venv
    fi
    rm -f "$stamp"
    "$venv/bin/python" -c 'import pip' 2>/dev/null || "$python" -m venv --clear "$venv"
    "$venv/bin/python" -m pip install --no-input --require-hashes --no-deps \
        --requirement requirements.lock
    # The build backend is in the lock too, so nothing else is downloaded.
    "$venv/bin/python" -m pip install --no-input --no-deps --no-build-isolation --editable .
    printf '%s\n' "$wanted" >"$stamp"
}
