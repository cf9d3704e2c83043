# Connects with every protocol version that this kernel knows, by unloading and loading hv_vmbus.
first=yes
for version in ${lab_versions:-5.3 5.2 5.1 5.0 4.1 4.0 3.0 2.4}; do
    [ $first = yes ] || unload hv_utils hv_vmbus
    first=no
    dmesg -c >/dev/null
    code=$((${version%.*} * 65536 + ${version#*.}))
    modprobe hv_vmbus max_version=$code || fail "modprobe hv_vmbus max_version=$code"
    load hv_utils
    kernel_said "Vmbus version:$version" || fail "no connection with version $version"
    ok "version $version"
    devices
    warnings
done
ok versions
