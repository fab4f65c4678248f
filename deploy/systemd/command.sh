#!/bin/sh
# The command on a machine that serves: as the server's own user, with the server's configuration. Goes to /usr/local/sbin/weighbridge.
[ "$(id -u)" = 0 ] || exec sudo -- "$0" "$@"
export WEIGHBRIDGE_CONFIG=/etc/weighbridge/weighbridge.toml
cd /  # that user may not be where this one is
exec runuser -u weighbridge -- /opt/weighbridge/current/bin/weighbridge "$@"
