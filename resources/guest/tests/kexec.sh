# Loads the same kernel again and jumps into it; the second one tells its facts.
case $lab_kernel in
second) . /tests/facts.sh ;;
*)
    value first "$(dmesg | sed -n 's/.*Vmbus version:\([0-9.]*\).*/\1/p')"
    command="$(sed 's/lab.script=kexec/lab.script=kexec lab.kernel=second/' /proc/cmdline)"
    kexec --load /kexec/vmlinuz --initrd=/kexec/initramfs --command-line="$command" || fail "kexec --load"
    ok "second kernel loaded"
    kexec --exec
    fail "kexec --exec came back"
    ;;
esac
