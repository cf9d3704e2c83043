# File systems: trees of files, journals after the power went, room given back to the host.

# format DISK [OPTION...]
task_format() {
    node=$(device "$1")
    shift
    mkfs.ext4 -q -F "$@" "$node" >/tmp/mkfs 2>&1 || fail "mkfs.ext4 $node: $(tr '\n' ' ' </tmp/mkfs)"
}

# attach DISK; detach: mounts and unmounts.
attach() {
    node=$(device "$1")
    mkdir -p /disk
    mount -t ext4 ${2:+-o "$2"} "$node" /disk || fail "mount $node"
}
detach() {
    umount /disk || fail "umount /disk"
}
task_attach() {
    attach "$@"
}
task_detach() {
    detach
}

# clean DISK: whether the file system is without a fault.
task_clean() {
    node=$(device "$1")
    e2fsck -fn "$node" >/tmp/fsck 2>&1 || fail "e2fsck $node: $(tr '\n' ' ' </tmp/fsck)"
}

# make_tree FOLDER COUNT: files of up to 4096 bytes, a hundred in a folder, the same ones every time.
make_tree() {
    seq 0 $((($2 - 1) / 100)) | sed "s,^,$1/," | xargs mkdir -p
    awk -v folder="$1" -v count="$2" '
        BEGIN {
            text = "Everything that is written here is read again. "
            while (length(text) < 4096)
                text = text text
            for (n = 0; n < count; n++) {
                file = folder "/" int(n / 100) "/" n
                printf "%d %s", n, substr(text, 1 + n % 40, n * 7919 % 4040) > file
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
    cp -r /tree /disk/copy || fail "cp -r"
    detach
    attach "$1"
    (cd /disk/copy && sha256sum -c -s /sums) || fail "files have changed"
    value files "$(find /disk/copy -type f | wc -l)"
    detach
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

# load DISK: writes files until the power goes; says the number of each one that the disk has promised to keep.
# Other files come and go meanwhile, so that the journal is never still.
task_load() {
    attach "$1"
    mkdir -p /disk/load /disk/noise
    (while :; do
        cp -r /tests /disk/noise/tests
        rm -r /disk/noise/tests
    done) &
    n=0
    while :; do
        n=$((n + 1))
        content $n | dd of=/disk/load/$n conv=fsync 2>/dev/null || fail "file $n"
        value synced $n
    done
}

# synced DISK LAST: whether the files up to that one are there as they were, after the journal was replayed.
task_synced() {
    attach "$1"
    for n in $(seq "$2"); do
        content "$n" | cmp -s - "/disk/load/$n" || fail "file $n of $2 is lost or changed"
    done
    detach
    task_clean "$1"
    value kept "$2"
}

# trim: gives the room of the mounted file system's free blocks back.
task_trim() {
    sync
    fstrim /disk
}

# blob MIB; unblob: a large file comes and goes.
task_blob() {
    dd if=/dev/urandom of=/disk/blob bs=1M count="$1" conv=fsync 2>/dev/null
}
task_unblob() {
    rm /disk/blob
}
