# Loads the ring probe again and again, with the parameters that the host types, one loading a line; "end" ends.
said() {
    dmesg | sed -n 's/^.*ring_probe: //p'
}

# tidy: passes warnings on and makes the kernel's log empty, so that what is said next can be told from it.
tidy() {
    warnings
    dmesg -c >/dev/null
}

tidy
echo "lab: ready"
while read -r parameters; do
    case $parameters in
    end) break ;;
    "") continue ;;
    esac
    # Busybox tries a second time when loading fails.
    insmod /ring_probe.ko $parameters 2>/dev/null && ! said | grep -q '^failed' ||
        fail "ring_probe $parameters: $(said | tr '\n' ';')"
    rmmod ring_probe || fail "rmmod ring_probe"
    said | sed 's/^/lab: probe /'
    tidy
    echo "lab: ready"
done
ok rings
