# What test scripts share. Every line for the host starts with "lab: ".

# Linux's drivers for the devices on VMBus. hv_vmbus comes first; unloading goes backwards.
HYPERV_MODULES="hv_vmbus hv_utils hv_storvsc hv_netvsc hyperv-keyboard hid-hyperv hyperv_fb hv_sock uio_hv_generic pci-hyperv"

# Those that stay once they are loaded (they have no exit function), so that hv_vmbus stays too.
STAYING_MODULES="hv_balloon"

# ok TEXT: a check passed.
ok() {
    echo "lab: ok $*"
}

# value NAME TEXT: something for the host to look at.
value() {
    name=$1
    shift
    echo "lab: value $name=$*"
}

# fail TEXT: the test is over; the kernel's last words go with it.
fail() {
    dmesg | tail -n 40
    echo "lab: fail $*"
    poweroff -f
}

# load MODULE...
load() {
    for module; do
        modprobe "$module" || fail "modprobe $module"
    done
}

# unload MODULE...: in the order given.
unload() {
    for module; do
        rmmod "$module" || fail "rmmod $module"
    done
}

# backwards WORD...
backwards() {
    turned=
    for word; do
        turned="$word $turned"
    done
    echo "$turned"
}

# until_true SECONDS COMMAND...: polls; false when the time is over.
until_true() {
    left=$(($1 * 10))
    shift
    until "$@"; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || return 1
        sleep 0.1
    done
}

# kernel_said TEXT: whether the kernel log has it.
kernel_said() {
    dmesg | grep -q "$1"
}

# warnings: what the kernel logged as a warning or worse, one line each for the host.
warnings() {
    # Lines of processor numbers ("#1 #2") are no warnings: the rest of a line of a level that dmesg does not know.
    dmesg -r | sed -n '/\] *\(#[0-9]* *\)*$/d; s/^<[0-4]>\[[^]]*\] */lab: warning /p'
}

# devices: the bus's devices by class, one value each.
devices() {
    for device in /sys/bus/vmbus/devices/*; do
        [ -e "$device/class_id" ] || continue
        value device "$(cat "$device/class_id")" "$(cat "$device/device_id")" "$(readlink "$device/driver" | sed 's,.*/,,')"
    done
}
