#!/bin/sh
# Ask the agent of this node for one condition, as a custom plugin of node-problem-detector.
#
# gpuward-condition.sh TYPE [URL]: exit 0 all is well, 1 trouble, 2 unknown; one line says what.
set -u
type=$1
url=${2:-http://127.0.0.1:9477}

answer=$(curl --silent --fail --max-time 3 "$url/conditions?type=$type") || {
    echo "no answer from gpuward agent at $url"
    exit 2
}
status=$(printf '%s\n' "$answer" | head -n 1)
printf '%s\n' "$answer" | tail -n +2
case $status in
False) exit 0 ;;
True) exit 1 ;;
*) exit 2 ;;
esac
