#!/bin/sh
# From the start of QEMU to the first HTTPS answer, microvm under TCG: the CalDAV image against Debian's cloud kernel with
# nginx in an initramfs. Medians; a Linux boot that hangs in its clock calibration (it does under TCG, now and then) is
# started again and not counted. Needs root, nginx and openssl.
set -u
. "$(dirname "$0")/lib.sh"
# shellcheck source=../lib/linux-guest.sh
. "$PROJECT/tests/lib/linux-guest.sh"
ROUNDS=${ROUNDS:-5}
# Seconds until a boot counts as hung.
HUNG=${HUNG:-40}

make_our_path
linux_kernel || exit 1
initramfs_begin "$WORK/nginx-root"
initramfs_program "$(command -v nginx)"
initramfs_module virtio_ring virtio virtio_mmio failover net_failover virtio_net virtio-rng
mkdir -p "$ROOT/var/lib/nginx" "$ROOT/var/log/nginx" "$ROOT/etc/nginx"
cp /lib/x86_64-linux-gnu/libnss_files.so.2 "$ROOT/lib/x86_64-linux-gnu/" 2>/dev/null
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=linux -days 30 \
    -keyout "$ROOT/etc/nginx/key.pem" -out "$ROOT/etc/nginx/certificate.pem" 2>/dev/null
cat >"$ROOT/etc/nginx/nginx.conf" <<END
user root root;
worker_processes 1;
error_log /var/log/nginx/error.log;
events { worker_connections 256; }
http { access_log off; server { listen 443 ssl; ssl_certificate /etc/nginx/certificate.pem; ssl_certificate_key /etc/nginx/key.pem;
    location / { return 200 "hello\n"; } } }
END
cat >"$ROOT/init" <<END
#!/bin/sh
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
while read -r module; do insmod /modules/\$module.ko; done </modules/order
ifconfig lo 127.0.0.1 up
ifconfig eth0 $OURS netmask 255.255.255.0 up
nginx -c /etc/nginx/nginx.conf
while :; do sleep 1000; done
END
chmod +x "$ROOT/init"
initramfs_pack "$WORK/nginx.cpio.gz"

# The disk has been used before: what is measured is a start, not a first start.
truncate -s 64M "$WORK/boot.img"

# first_answer QEMU-ARGUMENT...: milliseconds, or nothing if it hung.
first_answer() {
    start=$(date +%s%N)
    ip netns exec skb-client taskset -c "$SERVER_CORE" qemu-system-x86_64 -accel tcg -cpu max -M microvm,acpi=on -m 256 \
        -nodefaults -no-user-config -display none -serial file:"$WORK/boot.log" -no-reboot \
        -netdev tap,id=n,ifname=skbtap,script=no,downscript=no -device virtio-net-device,netdev=n,mac=02:00:00:00:00:02 \
        -object rng-random,id=r,filename=/dev/urandom -device virtio-rng-device,rng=r \
        -global virtio-mmio.force-legacy=false "$@" >/dev/null 2>&1 </dev/null &
    machine=$!
    # Whether the port is open is asked often; the request, with its handshake, then has its time.
    until in_client timeout 0.05 bash -c "</dev/tcp/$OURS/443" 2>/dev/null &&
        in_client curl -sk --max-time 5 -o /dev/null "https://$OURS/healthz"; do
        if [ $((($(date +%s%N) - start) / 1000000000)) -ge "$HUNG" ]; then
            kill -KILL "$machine"
            wait "$machine" 2>/dev/null
            return
        fi
        # The neighbour entry of an address that did not answer yet is not asked for again at once.
        ip netns exec skb-client ip neigh flush dev skbtap
    done
    echo $((($(date +%s%N) - start) / 1000000))
    kill -KILL "$machine"
    wait "$machine" 2>/dev/null
}

ours() {
    first_answer -kernel "$PROJECT/target/images/caldav.elf" -append "--ipv4=$OURS/24 --ipv6=none" \
        -drive "file=$WORK/boot.img,format=raw,if=none,id=d" -device virtio-blk-device,drive=d
}
# Linux under TCG on microvm now and then hangs while it calibrates its clocks: tried again.
linux() {
    attempt=0
    figure=
    while [ -z "$figure" ] && [ "$attempt" -lt 10 ]; do
        figure=$(boot_linux)
        attempt=$((attempt + 1))
    done
    echo "$figure"
}
boot_linux() {
    first_answer -kernel "$KERNEL" -initrd "$WORK/nginx.cpio.gz" -append "console=ttyS0 quiet"
}
ours >/dev/null
: >"$WORK/boot-ours"
: >"$WORK/boot-linux"
round=0
while [ "$round" -lt "$ROUNDS" ]; do
    ours >>"$WORK/boot-ours"
    linux >>"$WORK/boot-linux"
    round=$((round + 1))
done
echo "ours, ms: $(tr '\n' ' ' <"$WORK/boot-ours")  linux, ms: $(tr '\n' ' ' <"$WORK/boot-linux")"
at_least "starts per time, first HTTPS answer after QEMU's start (ms: ours second)" \
    "$(median "$WORK/boot-linux")" "$(median "$WORK/boot-ours")" 8
finish
