# A shell for a person (cargo lab shell).
echo "A guest of busman: $(uname -sr). Leave with 'poweroff -f', or Ctrl-A x."
dmesg | grep -E 'Vmbus version|Hypervisor detected' | sed 's/^/  /'
setsid cttyhack sh
