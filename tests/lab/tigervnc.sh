#!/bin/sh
# A person at TigerVNC's viewer, on an X server without a monitor: types a text, and turns the wheel a notch each way.
#   tigervnc.sh SOCKET FOLDER TEXT
# FOLDER gets a file `typed` in between, and `listening` is waited for; the viewer stays until there is a file `stop`.
set -e
socket=$1 folder=$2 text=$3
rm -rf "$folder"
mkdir "$folder"
cd "$folder"
export HOME="$folder"
stop() {
    kill $viewer $server 2>/dev/null || :
    rm -rf "$folder"
}
Xvfb -noreset -displayfd 3 -screen 0 1280x1024x24 -nolisten tcp 3>display 2>server.log &
server=$!
viewer=
trap stop EXIT
until [ -s display ]; do sleep 0.1; done
DISPLAY=:$(cat display)
export DISPLAY
xtigervncviewer -RemoteResize=0 -AlertOnFatalError=0 "$socket" >viewer.log 2>&1 &
viewer=$!
until window=$(xdotool search --name busman 2>/dev/null) && [ -n "$window" ]; do
    kill -0 $viewer || { cat viewer.log >&2; exit 1; }
    sleep 0.1
done
window=${window%%
*}
xdotool windowfocus --sync "$window"
xdotool type --delay 20 -- "$text"
touch typed
until [ -e listening ]; do sleep 0.1; done
xdotool mousemove --window "$window" 512 384 click 4 click 5
until [ -e stop ]; do sleep 0.1; done
