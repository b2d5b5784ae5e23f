# Keeps the QEMU guest agent running, where the host has sent one along: by it the host can freeze the file systems.
B="/run/vmsnap/ld.so /run/vmsnap/busybox"
cd /run/vmsnap/agent 2>/dev/null || exit 0

# A slow guest is first to be ready for commands; where it has no port for them, it never will be.
tries=0
until [ -e /run/vmsnap/ready ] || [ $tries -ge 20 ]; do
	$B sleep 0.3
	tries=$((tries + 1))
done
while :; do
	for name in /sys/class/virtio-ports/*/name; do
		[ -r "$name" ] && read -r text <"$name" && [ "$text" = org.qemu.guest_agent.0 ] || continue
		port=${name%/name}
		# There may be no /sbin/shutdown that it could run: refused at once, libvirt presses the power button instead.
		./ld.so --library-path . ./qemu-ga -m virtio-serial -p "/dev/${port##*/}" -t . -b guest-shutdown >>log 2>&1
	done
	$B sleep 1
done
