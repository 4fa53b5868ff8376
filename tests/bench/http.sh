#!/bin/sh
# HTTP/1.1 keep-alive, 64 connections, a small answer: the template as a process on a tap against nginx with one worker
# over a veth pair. Needs root, nginx and wrk.
set -u
. "$(dirname "$0")/lib.sh"
SECONDS_EACH=${SECONDS_EACH:-8}

make_our_path
make_peer_path
start_ours template --memory=64 || exit 1
cat >"$WORK/nginx.conf" <<END
worker_processes 1;
daemon off;
pid $WORK/nginx.pid;
error_log $WORK/nginx.log;
events { worker_connections 1024; }
http {
    access_log off;
    keepalive_requests 100000000;
    server { listen $PEER:80; location / { return 200 "hello from skerry\n"; } }
}
END
in_peer nginx -c "$WORK/nginx.conf" &
wait_for_port skb-client "$PEER" 80 || exit 1

requests() {
    in_client wrk -t1 -c64 -d"${SECONDS_EACH}s" "http://$1/" | awk '/^Requests\/sec/ { print $2 } /Non-2xx/ { bad = 1 } END { exit bad }'
}
# Interleaved, and the median: the machine is never quite still.
for round in $(seq "${ROUNDS:-3}"); do
    requests "$OURS" >>"$WORK/http-ours.$$"
    requests "$PEER" >>"$WORK/http-peer.$$"
    echo "round $round: $(tail -n 1 "$WORK/http-ours.$$") $(tail -n 1 "$WORK/http-peer.$$")"
done
at_least "HTTP requests a second, process on tap against nginx" "$(median "$WORK/http-ours.$$")" "$(median "$WORK/http-peer.$$")" 1.0
rm -f "$WORK"/http-*."$$"
finish
