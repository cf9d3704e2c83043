# Which disk is which, what it says of itself, and what can be done to a disk without a file system on it.

# hosts: the SCSI hosts of the bus's controllers, in the order in which the controllers were offered.
hosts() {
    for host in /sys/bus/vmbus/devices/*/host*; do
        [ -e "$host" ] && echo "$(cat "${host%/*}/id") ${host##*/host}"
    done | sort -n | sed 's/.* //'
}

# scsi CONTROLLER:LUN: the disk's folder in sysfs, if it is there.
scsi() {
    host=$(hosts | sed -n "$((${1%:*} + 1))p")
    ls -d "/sys/class/scsi_device/$host:0:0:${1#*:}/device" 2>/dev/null
}

# sysfs DISK: its folder in /sys/block.
sysfs() {
    case $1 in
    *:*) ls -d "$(scsi "$1")"/block/* ;;
    *) ls -d /sys/block/vd* | sed -n "$(($1 + 1))p" ;;
    esac 2>/dev/null
}

# device DISK: its node; the driver may still be busy with it.
device() {
    until_true 30 test -b "/dev/$(basename "$(sysfs "$1")")" || fail "there is no disk $1"
    echo "/dev/$(basename "$(sysfs "$1")")"
}

# has DISK; hasnt DISK
has() {
    [ -n "$(sysfs "$1")" ]
}
hasnt() {
    [ -z "$(scsi "$1")" ]
}

task_with() {
    until_true 10 has "$1"
}
task_without() {
    until_true 10 hasnt "$1"
    # The driver flushes a disk that it is to forget, and warns that it is gone already.
    warnings | grep -v 'cmd 0x35'
    dmesg -c >/dev/null
}

# disks: all of them, each with its bytes and the size of its sectors.
disks() {
    for folder in /sys/block/sd* /sys/block/vd*; do
        [ -e "$folder" ] || continue
        address=$(basename "$(readlink -f "$folder/device")")
        bytes=$(($(cat "$folder/size") * 512))
        value disk "$address $bytes $(cat "$folder/queue/logical_block_size") ro=$(cat "$folder/ro")"
    done
    value hosts "$(hosts | tr '\n' ' ')"
}

# size DISK: its bytes.
task_size() {
    device "$1" >/dev/null
    value size "$(($(cat "$(sysfs "$1")/size") * 512))"
}

# queue DISK: what the driver found out.
task_queue() {
    device "$1" >/dev/null
    for name in logical_block_size physical_block_size max_hw_sectors_kb discard_max_bytes write_cache fua nr_requests; do
        value "$name" "$(cat "$(sysfs "$1")/queue/$name")"
    done
    value hw_queues "$(ls "$(sysfs "$1")/mq" | wc -l)"
    value ro "$(cat "$(sysfs "$1")/ro")"
}

# fill DISK MIB SEED: writes pseudo-random bytes, past all caches of the guest; sum DISK MIB: what is there now.
task_fill() {
    dd if=/dev/urandom of=/fill bs=1M count="$2" 2>/dev/null
    value filled "$(sha256sum </fill | cut -d ' ' -f 1)"
    dd if=/fill of="$(device "$1")" bs=1M oflag=direct conv=fsync 2>/dev/null
}
task_sum() {
    value sum "$(dd if="$(device "$1")" bs=1M count="$2" iflag=direct 2>/dev/null | sha256sum | cut -d ' ' -f 1)"
}

# discard DISK: all of it.
task_discard() {
    blkdiscard "$(device "$1")"
}

# refuses DISK: a write fails, and says so.
task_refuses() {
    node=$(device "$1")
    ! dd if=/dev/zero of="$node" bs=4096 count=1 oflag=direct conv=fsync 2>/dev/null
}

# commands DISK: SCSI commands that Linux itself has no use for: verify, write same, persistent reservations.
task_commands() {
    node=$(device "$1")
    key=b0b0
    sg_write_same --10 --lba=8 --num=64 --xferlen=512 --in=/fill "$node" || fail "write same"
    dd if=/fill of=/block bs=512 count=1 2>/dev/null
    for block in 8 71; do
        dd if="$node" bs=512 skip=$block count=1 2>/dev/null | cmp -s - /block || fail "write same left out $block"
    done
    dd if="$node" bs=512 skip=72 count=1 2>/dev/null | cmp -s - /block && fail "write same went too far"
    sg_verify --lba=0 --count=256 "$node" || fail "verify"
    sg_verify --lba=8 --count=1 --ndo=512 --in=/block "$node" || fail "verify finds a difference where there is none"
    ! sg_verify --lba=72 --count=1 --ndo=512 --in=/block "$node" 2>/dev/null || fail "verify finds no difference"
    sg_persist --out --register --param-sark=$key "$node" >/dev/null || fail "register"
    sg_persist --out --reserve --param-rk=$key --prout-type=3 "$node" >/dev/null || fail "reserve"
    sg_persist --in --read-reservation "$node" | grep -qi "key=0x$key" || fail "the reservation cannot be read"
    sg_persist --out --release --param-rk=$key --prout-type=3 "$node" >/dev/null || fail "release"
    sg_persist --out --register --param-rk=$key --param-sark=0 "$node" >/dev/null || fail "unregister"
    ! sg_persist --in --read-keys "$node" | grep -qi "0x$key" || fail "the key is still registered"
    # The driver warns of the difference that verify was to find.
    warnings | grep -v 'cmd 0x2f'
    dmesg -c >/dev/null
}

# overfill DISK: writes until the host has no room left, which is an error of the disk and of nothing else; then
# reads back the beginning.
task_overfill() {
    node=$(device "$1")
    ! dd if=/dev/urandom of="$node" bs=1M oflag=direct 2>/tmp/dd || fail "everything fitted: $(cat /tmp/dd)"
    value written "$(sed -n 's/+.* records out//p' /tmp/dd)"
    dd if="$node" of=/dev/null bs=1M count=4 iflag=direct 2>/dev/null || fail "what was written cannot be read"
    dmesg -c | sed -n 's/^\[[^]]*\] *\(.*error.*\)/lab: value error=\1/p' | tail -n 4
}

# dvd CONTROLLER:LUN: what is on it; eject: takes the medium out; empty: the host did.
task_dvd() {
    node=$(device "$1")
    mkdir -p /dvd
    mount -t iso9660 -o ro "$node" /dvd || fail "mount $node"
    (cd /dvd && find . -type f | sort | xargs sha256sum | sed 's/^/lab: value file=/')
    umount /dvd
    # The driver asks every drive for READ TRACK INFORMATION, which those know that write.
    warnings | grep -v 'cmd 0x52'
    dmesg -c >/dev/null
}
task_eject() {
    sg_start --eject "$(device "$1")" || return
    until_true 10 no_medium "$1"
}
task_empty() {
    until_true 10 no_medium "$1"
}
no_medium() {
    ! sg_turs "$(device "$1")" 2>/dev/null
}
