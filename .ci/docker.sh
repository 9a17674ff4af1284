#!/usr/bin/env bash
# Install and start Docker where that is allowed (root, Debian). Says why where it is not; the container suite then skips.
set -uo pipefail

answers() { docker info >/dev/null 2>&1; }

answers && exit 0
[ "$(id -u)" = 0 ] || { echo "docker: no daemon, and not root to start one"; exit 1; }
if ! command -v dockerd >/dev/null; then
    command -v apt-get >/dev/null || { echo "docker: no daemon and no apt-get to install one"; exit 1; }
    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends docker.io || {
        echo "docker: docker.io cannot be installed"; exit 1; }
fi
if ! command -v docker >/dev/null; then echo "docker: the client is missing"; exit 1; fi

log=$(mktemp /tmp/dockerd.XXXXXX.log)
start() {
    rm -f /var/run/docker.pid
    setsid dockerd "$@" >>"$log" 2>&1 </dev/null &
    local daemon=$!
    for _ in $(seq 100); do
        answers && return 0
        kill -0 "$daemon" 2>/dev/null || return 1
        sleep 0.2
    done
    kill "$daemon" 2>/dev/null
    wait "$daemon" 2>/dev/null
    return 1
}
# Whole first; then without what a restricted machine forbids (the suite falls back to the host's network).
start || start --iptables=false --bridge=none --storage-driver=vfs || {
    echo "docker: the daemon does not start; its last words ($log):"; tail -n 5 "$log"; exit 1; }
echo "docker: daemon started, log in $log"
