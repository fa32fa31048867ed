# Cleans up after a throw-away cluster, however its owner ended.
#
# Runs as `sh -c THIS watchdog DIRECTORY`, under the account that runs the server, leading the process group that
# initdb, the postmaster and its companions join. The owner holds the other end of standard input and never writes to it: the end of
# input means that the owner is gone (finished, panicked, interrupted, killed) or asks for the end.
# Then: stop at once what is in the group, wait for it, remove the directory.
dir=$1
case $dir in /*/emaj-*) ;; *) exit 2 ;; esac
trap '' HUP INT QUIT TERM
cd / || exit 2

while read -r _; do :; done

# Says whether another member of this process group lives; sends each the signal $1, when given. Backends are not
# members (each leads a session of its own), but a postmaster ends after its backends.
others() {
    found=1
    for stat in /proc/[0-9]*/stat; do
        { read -r pid _ state _ group _ <"$stat"; } 2>/dev/null || continue
        if [ "$group" = "$$" ] && [ "$pid" != "$$" ] && [ "$state" != Z ]; then
            found=0
            [ -z "$1" ] || kill "-$1" "$pid" 2>/dev/null
        fi
    done
    return "$found"
}

# To a postmaster QUIT is the immediate shutdown, and TERM then nothing more. The others end at TERM: whoever was started in the background
# of a shell ignores QUIT.
kill -QUIT 0
kill -TERM 0
tries=0
while others ""; do
    tries=$((tries + 1))
    [ "$tries" -lt 200 ] || others KILL
    [ "$tries" -lt 300 ] || break
    sleep 0.05
done

# A postmaster that was killed with -9 leaves its file; line 7 names a shared memory segment that nobody else frees.
if [ -f "$dir/data/postmaster.pid" ]; then
    segment=$(sed -n '7s/.* //p' "$dir/data/postmaster.pid")
    [ -z "$segment" ] || ipcrm -m "$segment" 2>/dev/null
fi

# The backends of a killed postmaster notice within moments, and may write until then.
tries=0
until rm -rf "$dir" 2>/dev/null; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || exit 1
    sleep 0.05
done
