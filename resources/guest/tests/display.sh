# What a display, a keyboard and a mouse are like from within; does what the host types, one word a line.

# On the display's own console: no cursor that blinks, no kernel messages, and somebody who listens, so that it
# shows what is typed at it.
console() {
    until_true 20 test -e /sys/class/graphics/fb0 || fail "there is no frame buffer"
    dmesg -n 1
    printf '\033[?25l\033[2J\033[H' >/dev/tty1
    sleep 100000 </dev/tty1 &
    memory=$(sed -n 's/^ *\([0-9a-f]*\)-.* : 5620e0c7-8062-4dce-aeb7-520c7ef76171$/\1/p' /proc/iomem)
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

# row NUMBER: tells what is in a row of the console, the first being 0.
row() {
    columns=$(($(cut -d , -f 1 /sys/class/graphics/fb0/virtual_size) / 8))
    value row "$(dd if=/dev/vcs1 bs=$columns skip="$1" count=1 2>/dev/null)"
}

# print ROW TEXT: puts a text there.
print() {
    printf '\033[%d;1H%s' $(($1 + 1)) "$2" >/dev/tty1
}

# mode WIDTHxHEIGHT: a program with a picture of its own takes the display; none gives it back to the console.
mode() {
    if [ -n "$picture" ]; then
        kill "$picture"
        wait "$picture"
    fi 2>/dev/null
    picture=
    [ "$1" = none ] && return
    connector=$(modetest -M hyperv_drm -c 2>/dev/null | awk '$3 == "connected" { print $1 }')
    # It ends when its standard input does.
    mkfifo /tmp/end 2>/dev/null
    modetest -M hyperv_drm -s "$connector:$1" <>/tmp/end >/dev/console 2>&1 &
    picture=$!
}

# poke OFFSET WORD: writes into video memory behind the driver's back, and tells nobody.
poke() {
    devmem $((0x$memory + $1)) 32 "$2" || fail "video memory cannot be written"
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
    cursor) printf '\033[?25h' >/dev/tty1 && echo "lab: ready" ;;
    row) row "$rest" ;;
    print) print "${rest%% *}" "${rest#* }" && echo "lab: ready" ;;
    mode) mode "$rest" && echo "lab: ready" ;;
    poke) poke $rest && echo "lab: ready" ;;
    paint) paint "$rest" && echo "lab: ready" ;;
    away) away && echo "lab: ready" ;;
    back) load hyperv_drm && console && echo "lab: ready" ;;
    "") ;;
    *) fail "no such word: $word" ;;
    esac
done
fail "the console was closed"
