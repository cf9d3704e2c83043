#!/bin/busybox sh
# First program of L1: the machine that QEMU emulates so that there is a KVM with Hyper-V emulation.
# It puts the real machine's file tree (9p, read-only) under a throw-away layer, the shared folders on top
# of it, and runs the lab's agent there. When the agent ends, L1 powers off.
/bin/busybox mkdir -p /bin /proc /sys /dev /lower /layer /root
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev

leave() {
    [ -z "$1" ] || echo "l1: $1"
    echo o >/proc/sysrq-trigger
    sleep 60
}

while read -r module; do
    insmod "/modules/$module" || leave "cannot load $module"
done </modules/order

p9=trans=virtio,version=9p2000.L,msize=1048576
mount -t 9p -o "$p9,cache=loose,ro" host /lower || leave "cannot mount the machine's file tree"
mount -t tmpfs layer /layer
mkdir /layer/upper /layer/work
mount -t overlay -o lowerdir=/lower,upperdir=/layer/upper,workdir=/layer/work root /root || leave "cannot lay over it"

mount -t proc proc /root/proc
mount -t sysfs sysfs /root/sys
mount -t debugfs debug /root/sys/kernel/debug
mount --move /dev /root/dev
mkdir -p /root/dev/shm /root/dev/pts
mount -t tmpfs shm /root/dev/shm
mount -t devpts pts /root/dev/pts

# Folders shared for writing: one line each, its 9p tag, a space, its path.
while read -r tag path; do
    mount -t 9p -o "$p9,cache=mmap" "$tag" "/root$path" || leave "cannot share $path"
done </shares

echo "l1: up, $(uname -r), kvm: $(ls /root/dev/kvm)"
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
/bin/chroot /root "$(/bin/cat /agent)" agent /dev/vport0p1
export PATH=/bin
leave "the agent ended"
