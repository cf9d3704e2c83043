# File systems: trees of files, journals after the power went, room given back to the host.

# format DISK [OPTION...]
task_format() {
    node=$(device "$1")
    shift
    mkfs.ext4 -q -F "$@" "$node" >/tmp/mkfs 2>&1 || fail "mkfs.ext4 $node: $(tr '\n' ' ' </tmp/mkfs)"
}

# attach DISK; detach DISK: mounts and unmounts, at /disks/DISK.
attach() {
    mkdir -p "/disks/$1"
    mount -t ext4 "$(device "$1")" "/disks/$1" || fail "mount disk $1"
}
detach() {
    umount "/disks/$1" || fail "umount disk $1"
}
task_attach() {
    attach "$1"
}
task_detach() {
    detach "$1"
}

# clean DISK: whether the file system is without a fault.
task_clean() {
    node=$(device "$1")
    e2fsck -fn "$node" >/tmp/fsck 2>&1 || fail "e2fsck $node: $(tr '\n' ' ' </tmp/fsck)"
}

# make_tree FOLDER COUNT: small files and a few large ones, a hundred in a folder, the same ones every time.
make_tree() {
    seq 0 $((($2 - 1) / 100)) | sed "s,^,$1/," | xargs mkdir -p
    awk -v folder="$1" -v count="$2" '
        BEGIN {
            text = "Everything that is written here is read again. "
            while (length(text) < 65536)
                text = text text
            for (n = 0; n < count; n++) {
                file = folder "/" int(n / 100) "/" n
                printf "%d %s", n, substr(text, 1 + n % 40, n % 50 ? n * 7919 % 1000 : n * 7919 % 60000) > file
                close(file)
            }
        }'
    (cd "$1" && find . -type f | sort | xargs sha256sum) >/sums
}

# tree DISK COUNT: a new file system takes a copy of a tree, and has it after it was mounted again.
task_tree() {
    [ -e /tree ] || make_tree /tree "$2"
    task_format "$1"
    attach "$1"
    cp -r /tree "/disks/$1/copy" || fail "cp -r"
    detach "$1"
    attach "$1"
    (cd "/disks/$1/copy" && sha256sum -c -s /sums) || fail "files have changed"
    value files "$(find "/disks/$1/copy" -type f | wc -l)"
    detach "$1"
    task_clean "$1"
}

# content N: what file N of a load has in it, up to 64 KiB.
content() {
    awk -v n="$1" '
        BEGIN {
            text = n " is the number of this file. "
            while (length(text) < n * 7919 % 65536)
                text = text text
            print text
        }'
}

# load DISK...: writes files to each disk until the power goes; says the number of each one that the disk has
# promised to keep. Other files come and go meanwhile, so that the journal is never still.
task_load() {
    for disk; do
        attach "$disk"
        mkdir -p "/disks/$disk/load"
        keep_files "$disk" &
        change_files "$disk" &
    done
    wait
}
keep_files() {
    n=0
    while n=$((n + 1)); do
        content $n | dd of="/disks/$1/load/$n" conv=fsync 2>/dev/null || fail "file $n on disk $1"
        value synced "$1 $n"
    done
}
change_files() {
    while cp -r /tests "/disks/$1/noise"; do
        rm -r "/disks/$1/noise"
    done
    fail "other files on disk $1"
}

# synced DISK LAST: whether the files up to that one are there as they were, after the journal was replayed.
task_synced() {
    attach "$1"
    for n in $(seq "$2"); do
        content "$n" | cmp -s - "/disks/$1/load/$n" || fail "disk $1: file $n of $2 is lost or changed"
    done
    detach "$1"
    task_clean "$1"
    value kept "$1 $2"
}

# trimmed DISK MIB: a large file comes and goes, and its room is given back.
task_trimmed() {
    attach "$1"
    dd if=/dev/urandom of="/disks/$1/blob" bs=1M count="$2" conv=fsync 2>/dev/null || fail "no room for the file"
    rm "/disks/$1/blob"
    sync
    fstrim "/disks/$1" || fail "fstrim disk $1"
    detach "$1"
    task_clean "$1"
}
