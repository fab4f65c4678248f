# machine.sh FOLDER CHECKOUT CGROUP: becomes the machine of machine.py; to be run by root, in a mount namespace of its own.
# Besides what systemd asks of a container (systemd.io/CONTAINER_INTERFACE): /sys and /proc/sys are read-only, and what could reach
# the kernel that all share (its clock, its modules, its devices) is taken from every process before the first one starts.
set -eu
folder=$1 checkout=$2 cgroup=$3
mount -t tmpfs -o mode=755 tmpfs "$folder"
cd "$folder"
mkdir upper work root
# What is below another mount isn't in it: no /proc, no /run.
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
touch network
mount --bind /proc/self/ns/net network
mkdir cgroups
mount -t cgroup2 none cgroups
mkdir "cgroups/$cgroup"
echo $$ > "cgroups/$cgroup/cgroup.procs"
exec unshare --cgroup --ipc --mount --net --pid --uts --fork --kill-child sh -eu -c '
    hostname machine
    ip link set lo up
    mount -t proc proc root/proc
    mount --bind root/proc/sys root/proc/sys
    mount -o remount,bind,ro root/proc/sys
    mount -t sysfs -o ro,nosuid,nodev,noexec sysfs root/sys
    mount -t cgroup2 none root/sys/fs/cgroup
    mount -t tmpfs -o mode=755 tmpfs root/dev
    for device in null zero full random urandom tty; do
        touch root/dev/$device
        mount --bind /dev/$device root/dev/$device
    done
    mkdir root/dev/pts root/dev/shm
    mount -t devpts -o newinstance,ptmxmode=0666 devpts root/dev/pts
    mount -t tmpfs -o mode=1777 tmpfs root/dev/shm
    ln -s pts/ptmx root/dev/ptmx
    ln -s /proc/self/fd root/dev/fd
    mount -t tmpfs -o mode=755 tmpfs root/run
    touch root/run/network
    mount --bind network root/run/network
    mount -t tmpfs -o mode=1777 tmpfs root/tmp
    # As apt leaves them on a machine that had no such servers.
    for state in etc/postgresql var/lib/postgresql var/lib/redis var/log/postgresql opt/weighbridge; do
        mkdir -p root/$state
        mount -t tmpfs -o mode=755 tmpfs root/$state
    done
    chown redis:redis root/var/lib/redis
    chown postgres:postgres root/etc/postgresql root/var/lib/postgresql
    chmod 1777 root/var/log/postgresql
    mkdir -p root/srv/weighbridge root/run/systemd/system
    mount --bind "$1" root/srv/weighbridge
    mount -o remount,bind,ro root/srv/weighbridge
    # Nothing but what units need that are started later, and are told of: no service that this machine has enabled.
    printf "[Unit]\nRequires=sysinit.target systemd-journald.service\nAfter=sysinit.target\n" > root/run/systemd/system/ready.target
    for unit in systemd-journald-audit.socket systemd-timesyncd.service dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount \
        sys-kernel-tracing.mount sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount modprobe@.service; do
        ln -s /dev/null root/run/systemd/system/$unit
    done
    mkdir -p root/mnt/outside
    pivot_root root root/mnt/outside
    cd /
    umount -l /mnt/outside
    mount --make-rshared /
    exec env -i container=test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        setpriv --pdeathsig=KILL --bounding-set=-sys_module,-sys_time,-sys_rawio,-syslog,-mac_admin,-mac_override,-audit_control,-audit_read \
        /lib/systemd/systemd --system --unit=ready.target --show-status=false --log-target=console --log-level=notice </dev/null
' sh "$checkout"
