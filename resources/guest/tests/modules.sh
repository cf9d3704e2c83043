# Unloads and loads every Hyper-V module, again and again.
for round in $(seq "${lab_rounds:-10}"); do
    unload $(backwards $HYPERV_MODULES)
    load $HYPERV_MODULES
    ok "round $round"
done
value connections "$(dmesg | grep -c 'Vmbus version:')"
devices
warnings
ok modules
