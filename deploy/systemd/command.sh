#!/bin/sh
# The command on a machine that serves: as the server's own user, with the server's configuration and the variables that the
# unit gives it. Goes to /usr/local/sbin/weighbridge.
if [ "$(id -u)" != 0 ]; then
    # sudo drops them without a word, and the command would look at the running server's data in place of a copy of it.
    ! env | grep -q '^WEIGHBRIDGE_' || { echo "error: sudo wouldn't pass on the variables WEIGHBRIDGE_…: type this as root" >&2; exit 64; }
    exec sudo -- "$0" "$@"
fi
environment=/etc/weighbridge/environment
if [ -r "$environment" ]; then
    # As systemd reads it, as far as `NAME=value` a line goes; what was typed before the command goes before the file.
    while IFS= read -r line || [ -n "$line" ]; do
        name=${line%%=*} value=${line#*=}
        case $name in "$line" | '' | *[!A-Za-z0-9_]* | [0-9]*) continue ;; esac
        case $value in \"*\") value=${value#\"} value=${value%\"} ;; \'*\') value=${value#\'} value=${value%\'} ;; esac
        [ -n "$(printenv "$name")" ] || export "$name=$value"
    done < "$environment"
fi
export WEIGHBRIDGE_CONFIG=/etc/weighbridge/weighbridge.toml
cd /  # that user may not be where this one is
exec runuser -u weighbridge -- /opt/weighbridge/current/bin/weighbridge "$@"
