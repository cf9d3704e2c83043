# What the guest makes of its machine; the host judges.
value cpus "$(nproc)"
value clocksource "$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
value hypervisor "$(dmesg | sed -n 's/.*Hypervisor detected: //p')"
value vmbus "$(dmesg | sed -n 's/.*Vmbus version:\([0-9.]*\).*/\1/p' | tail -n 1)"
value memory "$(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo)"

# CPUID leaves 0x40000000 and 0x40000100: the vendors' signatures are in bytes 4 to 15.
load cpuid
value hyperv_leaf "$(dd if=/dev/cpu/0/cpuid bs=16 skip=$((0x40000000 / 16)) count=1 2>/dev/null | tail -c 12 | tr -cd '[:alnum:] ')"
value kvm_leaf "$(dd if=/dev/cpu/0/cpuid bs=16 skip=$((0x40000100 / 16)) count=1 2>/dev/null | tail -c 12 | tr -cd '[:alnum:] ')"
devices
warnings
ok facts
