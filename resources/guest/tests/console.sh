# Does what the host types, one word a line; between the words it is idle.

# offered CLASS: whether the bus has a device of the class with a driver bound to it; gone: whether it has none.
offered() {
    for device in /sys/bus/vmbus/devices/*; do
        ! grep -q "$1" "$device/class_id" || [ ! -e "$device/driver" ] || return 0
    done
    return 1
}
gone() {
    ! cat /sys/bus/vmbus/devices/*/class_id | grep -q "$1"
}

# deafen: masks every processor's SINT2 (the one that Linux uses for VMBus), behind the kernel's back: no message
# and no signal of the host gets through any more.
deafen() {
    load msr
    for cpu in /dev/cpu/[0-9]*; do
        exec 3<>"$cpu/msr"
        dd bs=1 skip=$((0x40000092)) count=0 <&3 2>/dev/null
        printf '\0\0\1\0\0\0\0\0' >&3 || fail "cannot mask SINT2"
        exec 3>&-
    done
}

value kernel "$(uname -r)"
value vmbus "$(dmesg | sed -n 's/.*Vmbus version:\([0-9.]*\).*/\1/p' | tail -n 1)"
echo "lab: ready"
while read -r word rest; do
    case $word in
    poweroff) poweroff -f ;;
    reboot) reboot -f ;;
    crash) echo c >/proc/sysrq-trigger ;;
    devices) devices && echo "lab: ready" ;;
    warnings) warnings && echo "lab: ready" ;;
    load) load $rest && echo "lab: ready" ;;
    unload) unload $rest && echo "lab: ready" ;;
    date) date -s "$rest" >/dev/null && echo "lab: ready" ;;
    deafen) deafen && echo "lab: ready" ;;
    said) until_true 20 kernel_said "$rest" && echo "lab: ready" || fail "the kernel did not say $rest" ;;
    unsaid) ! kernel_said "$rest" && echo "lab: ready" || fail "the kernel said $rest" ;;
    forget) dmesg -c >/dev/null && echo "lab: ready" ;;
    noise) yes "noise" | head -c "$rest" && echo "lab: ready" ;;
    second) seq "$rest" >/dev/ttyS1 && echo "lab: ready" || fail "nothing can be sent to the second serial port" ;;
    now) value now "$(date +%s)" ;;
    with) until_true 20 offered "$rest" && echo "lab: ready" || fail "no device of class $rest" ;;
    without) until_true 20 gone "$rest" && echo "lab: ready" || fail "still a device of class $rest" ;;
    "") ;;
    *) fail "no such word: $word" ;;
    esac
done
fail "the console was closed"
