# Process 1 of a lab guest: starts the shell on the serial port and the listener for commands, and shuts down.
B="/run/vmsnap/ld.so /run/vmsnap/busybox"
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=vt100 LANG=C.UTF-8

echo 4 >/proc/sys/kernel/printk # from here on the console is the terminal's: only errors of the kernel appear there
$B mkdir -p /dev/pts /dev/shm
$B ln -s /proc/self/fd /dev/fd
$B ln -s fd/0 /dev/stdin
$B ln -s fd/1 /dev/stdout
$B ln -s fd/2 /dev/stderr
$B mount -t devpts -o gid=5,mode=620 devpts /dev/pts
$B ifconfig lo up
cd /root 2>/dev/null || cd /

down() {
	trap '' TERM USR1 USR2
	echo "vmsnap: going down"
	$B kill -TERM -1
	$B sleep 0.3
	$B kill -KILL -1
	cd /
	$B sync
	$B mount -o remount,ro /
	$B "$1" -f
}
# The signals that busybox's poweroff, halt and reboot send to process 1.
trap 'down halt' USR1
trap 'down poweroff' USR2
trap 'down reboot' TERM

$B sh /run/vmsnap/listen.sh &
$B sh /run/vmsnap/agent.sh &
# Not with &: then that shell, and all that it starts, would ignore Ctrl-C. The first setsid makes a session; the second
# cannot, and therefore goes on in a new process, for whose end nobody waits.
$B setsid $B setsid $B sh /run/vmsnap/terminal.sh

# virsh shutdown presses the power button. The modules are the distribution's own, if it has them.
(
	$B modprobe -a button evdev 2>/dev/null
	for event in /dev/input/event*; do
		[ -c "$event" ] || continue
		# One event is 24 bytes; type 1 is a key, code 116 is the power key, value 1 is pressed.
		while $B dd bs=24 count=1 2>/dev/null | $B od -An -tu2 -j16 -N6 >/run/vmsnap/key; do
			read -r type code value rest </run/vmsnap/key || break
			[ "$type $code $value" = "1 116 1" ] && $B kill -USR2 1
		done <"$event" &
	done
) &

while :; do
	$B sleep 3600 &
	wait $!
done
