# The other side of `busman guest`: Debian's hyperv-daemons, a disk to freeze, a network adapter to ask for, files that
# come. Does what the host types, one task a line.

# start SERVICE; stop SERVICE: kvp, vss or fcopy; halt and go_on are a service that says nothing for a while.
task_start() {
    until_true 10 test -e "/dev/vmbus/hv_$1" || fail "no device for hv_$1_daemon"
    hv_$1_daemon -n >"/tmp/$1.log" 2>&1 &
    echo $! >"/tmp/$1.pid"
}
task_stop() {
    kill "$(cat "/tmp/$1.pid")"
}
task_halt() {
    kill -STOP "$(cat "/tmp/$1.pid")"
}
task_go_on() {
    kill -CONT "$(cat "/tmp/$1.pid")"
}

# adapter MAC ADDRESS: a network adapter that leads nowhere.
task_adapter() {
    load dummy
    ip link set dev dummy0 address "$1" && ip addr add "$2" dev dummy0 && ip link set dev dummy0 up
}

# bus_adapter GUID: the adapter looks like a device of the bus, as far as hv_kvp_daemon looks.
task_bus_adapter() {
    address=$(cat /sys/class/net/dummy0/address)
    mount -t tmpfs none /sys/class/net
    mkdir -p /sys/class/net/dummy0/device
    echo "$address" >/sys/class/net/dummy0/address
    echo "{$1}" >/sys/class/net/dummy0/device/device_id
}
# set_ip_script: what hv_kvp_daemon runs to set an adapter up; here it writes down what it is given.
task_set_ip_script() {
    mkdir -p /usr/libexec/hypervkvpd
    printf '#!/bin/sh\ncp "$1" /tmp/adapter\n' >/usr/libexec/hypervkvpd/hv_set_ifconfig
    chmod +x /usr/libexec/hypervkvpd/hv_set_ifconfig
}
# set_ip: what it was given, in one line.
task_set_ip() {
    value set_ip "$(tr '\n' ' ' </tmp/adapter)"
    rm /tmp/adapter
}

# disk: the first disk gets a file system, at /disk.
task_disk() {
    until_true 30 test -b /dev/sda || fail "there is no disk"
    mkfs.ext4 -q -F /dev/sda >/tmp/mkfs 2>&1 || fail "mkfs.ext4: $(tr '\n' ' ' </tmp/mkfs)"
    mkdir -p /disk
    mount -t ext4 /dev/sda /disk
}

# write NAME: writes to the disk, behind the script's back; written NAME, unwritten NAME: whether it could.
task_write() {
    (echo text >"/disk/$1" && touch "/tmp/written-$1") &
}
task_written() {
    until_true 20 test -e "/tmp/written-$1"
}
task_unwritten() {
    sleep 2
    [ ! -e "/tmp/written-$1" ]
}

# sum FILE; there FILE; gone FILE
task_sum() {
    value sum "$(sha256sum <"$1" | cut -d ' ' -f 1)"
}
task_there() {
    until_true 20 test -s "$1"
}
task_gone() {
    until_true 20 test ! -e "$1"
}

echo "lab: ready"
while read -r task rest; do
    case $task in
    end) break ;;
    "") continue ;;
    *) "task_$task" $rest || fail "$task $rest" ;;
    esac
    echo "lab: ready"
done
warnings
ok guest
