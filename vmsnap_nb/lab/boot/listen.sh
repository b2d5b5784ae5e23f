# Takes commands from the host on a virtio serial port and answers with what they wrote.
#
#   host:   <id> <seconds> <command in base64>
#   guest:  @<id> out, lines of base64, @<id> err, lines of base64, @<id> end <exit status> <1 if the time was over>
#
# With 0 seconds and no command the host only asks whether the guest is ready: that starts no program.
#
# The host may come and go: an answer waits until somebody listens, and whoever listens skips answers of other ids. A
# command of a host that has gone, as after an interrupt, is ended: otherwise the next one would wait for it.
B="/run/vmsnap/ld.so /run/vmsnap/busybox"
cd /run/vmsnap || exit 1

. ./port.sh

# The first sync writes the journal, flushes the disk, and then writes what the journal has to its place. QEMU writes the
# tables of an image at a flush: only the second one makes what was written last readable in the file.
save() {
	[ -e /run/vmsnap/agent/qga.state.isfrozen ] || { $B sync && $B sync; }
}

# The host keeps 3 MiB of each output; a little more shows it that there was more.
part() {
	echo "@$id $1"
	[ ! -s "$work/$1" ] || $B dd if="$work/$1" bs=65536 count=49 2>/dev/null | $B base64
}

answer() {
	id=$1 seconds=$2
	work=/run/vmsnap/command.$id
	# Without -p: that would first try to make /run, and hang while / is frozen.
	$B mkdir "$work"
	echo "$3" | $B base64 -d >"$work/text" || return
	(
		cd "${HOME:-/}" 2>/dev/null || cd /
		exec $B setsid /bin/sh -c "$($B cat "$work/text")" </dev/null >"$work/out" 2>"$work/err" 3>&-
	) &
	command=$!
	(
		# Before the end of a command the host sends nothing: a line is the first one of the next host, and the end
		# of the file means that nobody is connected.
		read -r now rest </proc/uptime
		end=$((${now%.*} + seconds))
		read -r -t "$seconds" line <&3
		got=$?
		read -r now rest </proc/uptime
		[ $got -ne 0 ] && [ "${now%.*}" -ge $end ] && echo 1 >"$work/late" || echo 1 >"$work/gone"
		# A command that has only just begun may not have its group yet.
		until kill -KILL -$command 2>/dev/null || ! kill -0 $command 2>/dev/null; do
			$B sleep 0.1
		done
	) &
	guard=$!
	wait $command
	status=$?
	kill $guard 2>/dev/null
	wait $guard 2>/dev/null # otherwise this shell says on the console that it was ended
	late=0
	[ ! -e "$work/gone" ] || late=2
	[ ! -e "$work/late" ] || late=1
	if [ $late != 0 ]; then
		# The others of its group may take a moment longer to end.
		tries=0
		while kill -0 -$command 2>/dev/null && [ $tries -lt 100 ]; do
			$B sleep 0.1
			tries=$((tries + 1))
		done
	fi
	# What the command wrote is on the host's disk before the host hears of its end; of one that was ended it is soon
	# after. While the agent has the file systems frozen there is nothing left to write, and it would wait for the thaw.
	[ $late != 0 ] || save
	[ $late = 2 ] || {
		part out
		part err
		echo "@$id end $status $late"
	} >&3
	[ $late = 0 ] || save
	$B rm -rf "$work"
}

# Nobody ever writes into this pipe: to wait for that starts no program, of which an idle guest would start five a second.
$B mkfifo never
pause() {
	if [ -p never ]; then
		read -r -t 0.2 nothing <>never 2>/dev/null
		[ $? -eq 2 ] || return
	fi
	# An old busybox takes whole seconds only, and a small one has no pipes.
	$B sleep 0.2
}

read -r ready rest </proc/uptime
echo "$ready" >/run/vmsnap/ready
echo "vmsnap: ready for commands" >/dev/console
exec 3<>"$port"
while :; do
	if read -r id seconds text <&3; then
		case $id$seconds in
		'' | *[!0-9a-f]*) ;;
		*)
			if [ "$seconds$text" = 0 ]; then
				echo "@$id end 0 0" >&3
			else
				answer "$id" "$seconds" "$text"
			fi
			;;
		esac
	else
		# The end of the file: nobody is connected at the host's side.
		pause
	fi
done
