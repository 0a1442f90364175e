#!/bin/sh
# Makes any Debian or Ubuntu root file system the environment of a notebook server: installs
# what is missing of `packages`, the user 1000, and the locked Python environment.
# Runs as root inside a build; pip asks the index that its settings name.
set -eu
cd "$(dirname "$0")"

missing=
for package in $(grep -v '^#' packages); do
    dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null |
        grep -qx installed || missing="$missing $package"
done
if [ -n "$missing" ]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086  # a list of names
    apt-get install -qq -y --no-install-recommends -o Dpkg::Options::=--force-unsafe-io $missing
    rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
fi

# Ubuntu's images bring a user 1000 of their own.
other=$(getent passwd 1000 | cut -d: -f1)
if [ -n "$other" ] && [ "$other" != user ]; then
    userdel --remove "$other" 2>/dev/null || userdel "$other"
fi
getent group 1000 >/dev/null || groupadd --gid 1000 user
id user >/dev/null 2>&1 ||
    useradd --uid 1000 --gid 1000 --create-home --shell /bin/bash --comment 'Notebook user' user
install -d -o 1000 -g 1000 /workarea

# With the system's packages, so that an unprivileged pip installs into the user's ~/.local.
python3 -m venv --system-site-packages /opt/taccuino
/opt/taccuino/bin/python -m pip --disable-pip-version-check --no-cache-dir install --quiet \
    --root-user-action=ignore --no-compile --no-deps --require-hashes -r requirements.lock
site=$(/opt/taccuino/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
# Tests of libraries are many of the files and are never imported (but numpy's); source maps serve
# only those who debug the front end.
find "$site" -type d \( -name tests -o -name test \) -path '*/site-packages/*/*' \
    ! -path '*/numpy/*' -prune -exec rm -rf {} +
find /opt/taccuino -name '*.js.map' -delete
# The server part of Taccuino is laid here by the base image.
echo /opt/taccuino/server > "$site/taccuino.pth"
# An unchecked .pyc is believed without a look at its source: faster at every import.
/opt/taccuino/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash "$site" || true
python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash \
    "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" || true

# Matplotlib's list of fonts takes seconds at its first import.
su user -c '/opt/taccuino/bin/python -c "import matplotlib.font_manager"' >/dev/null
