# What a display, a keyboard and a mouse are like from within; does what the host types, one word a line.

# On the display's own console: no cursor that blinks, no kernel messages, and somebody who listens, so that it
# shows what is typed at it.
console() {
    until_true 20 test -e /sys/class/graphics/fb0 || fail "there is no frame buffer"
    dmesg -n 1
    printf '\033[?25l\033[2J\033[H' >/dev/tty1
    sleep 100000 </dev/tty1 &
}

# listen: tells every event of every input device, as words: device, type, code, value.
listen() {
    for node in /dev/input/event*; do
        name=$(tr ' ' _ <"/sys/class/input/${node##*/}/device/name")
        value input "$name"
        while dd bs=24 count=1 2>/dev/null | hexdump -v -e '12/2 "%u " "\n"' >"/tmp/${node##*/}"; do
            set -- $(cat "/tmp/${node##*/}")
            # Two words each of seconds and microseconds, twice over; then type, code and value.
            [ $# = 12 ] && [ "$9" != 0 ] && echo "lab: event $name $9 ${10} ${11}"
        done <"$node" &
    done
}

# paint WORD: fills the picture with the word, again and again. In large pieces: of one that ends with a row that it
# began in, Linux 6.1 does not draw the last pixels.
paint() {
    size=$(tr , ' ' </sys/class/graphics/fb0/virtual_size)
    set -- $1 $size
    yes "$1" | head -c $(($2 * $3 * 4)) >/tmp/paint
    dd if=/tmp/paint of=/dev/fb0 bs=1M 2>/dev/null
}

# away: lets the driver go; back: loads it again.
away() {
    for console in /sys/class/vtconsole/vtcon*; do
        grep -q 'frame buffer' "$console/name" && echo 0 >"$console/bind"
    done
    unload hyperv_drm
}

console
value resolution "$(cat /sys/class/graphics/fb0/virtual_size)"
echo "lab: ready"
while read -r word rest; do
    case $word in
    poweroff) poweroff -f ;;
    warnings) warnings && echo "lab: ready" ;;
    listen) listen && echo "lab: ready" ;;
    say) printf '%s' "$rest" >/dev/tty1 && echo "lab: ready" ;;
    paint) paint "$rest" && echo "lab: ready" ;;
    away) away && echo "lab: ready" ;;
    back) load hyperv_drm && console && echo "lab: ready" ;;
    "") ;;
    *) fail "no such word: $word" ;;
    esac
done
fail "the console was closed"
