#!/bin/sh
# The command on a machine that serves: as the server's own user, with the server's configuration. Goes to /usr/local/sbin/weighbridge.
[ "$(id -u)" = 0 ] || exec sudo -- "$0" "$@"
export WEIGHBRIDGE_CONFIG=/etc/weighbridge/weighbridge.toml
# Who typed it, for the audit events; and a folder that this user may be in.
export LOGNAME="${SUDO_USER:-${LOGNAME:-root}}"
cd /
exec runuser -u weighbridge -- /opt/weighbridge/current/bin/weighbridge "$@"
