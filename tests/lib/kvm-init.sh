#!/bin/sh
# The first process of the guest in which tests/kvm.sh tries KVM. Prints a CHECK line for each thing that it tries.
export PATH=/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
ifconfig lo 127.0.0.1 up
while read -r module; do
    insmod "/modules/$module.ko" 2>/dev/null
done </modules/order

answer() {
    what=$1
    shift
    if "$@" >/tmp/output 2>&1; then
        echo "CHECK $what: yes"
    else
        echo "CHECK $what: NO"
        tail -n 40 /tmp/output
    fi
}

event='BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//skerry//test//EN
BEGIN:VEVENT
UID:kvm@test
DTSTAMP:20261123T000000Z
DTSTART:20261124T100000Z
SUMMARY:under KVM
END:VEVENT
END:VCALENDAR'

run() {
    /skerry/deploy/run-caldav.sh --state /tmp/state "$@"
}
request() {
    curl -sk --max-time 60 -u "$user:$password" "$@"
}
same_event() {
    request "https://127.0.0.1:8443/calendars/$user/default/kvm.ics" >/tmp/back && cmp /tmp/back /tmp/event
}

answer 'there is a /dev/kvm' test -c /dev/kvm
answer 'auto takes KVM' sh -c '/skerry/deploy/run-caldav.sh --state /tmp/dry --dry-run | grep -q -- "-accel kvm"'
answer 'run-caldav.sh --hv kvm starts the image' run --hv kvm --detach
cat /tmp/output
answer 'status says that it runs under KVM' sh -c '/skerry/deploy/run-caldav.sh --state /tmp/state --status | grep kvm'
answer 'it answers over HTTPS' sh -c 'curl -sk --max-time 60 https://127.0.0.1:8443/healthz'
answer 'it asks for a password' sh -c 'curl -sk --max-time 60 -o /dev/null -w "%{http_code}" https://127.0.0.1:8443/calendars/ | grep 401'
user=$(sed -n 's/.*user=\([^ ]*\).*/\1/p' /tmp/state/first-password)
password=$(sed -n 's/.*password=\([^ ]*\).*/\1/p' /tmp/state/first-password)
answer 'the first user is let in' sh -c "curl -sk --fail --max-time 60 -u '$user:$password' -X PROPFIND -H 'Depth: 0' https://127.0.0.1:8443/calendars/$user/"
printf '%s\n' "$event" | sed 's/$/\r/' >/tmp/event
answer 'an event is stored' request --fail -T /tmp/event -H 'Content-Type: text/calendar' "https://127.0.0.1:8443/calendars/$user/default/kvm.ics"
answer 'stop ends it cleanly' run --stop
run --hv kvm --detach >/dev/null 2>&1
answer 'the event is there after a restart' same_event
run --stop
tail -n 40 /tmp/state/console.log
echo ALLDONE
poweroff -f
