# Does what the host types, one word a line; between the words it is idle.
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
    now) value now "$(date +%s)" ;;
    "") ;;
    *) fail "no such word: $word" ;;
    esac
done
fail "the console was closed"
