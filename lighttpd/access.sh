#!/bin/sh
# The program access_log on lighttpd's log pipe, descriptor 0, started again when it ends before the
# pipe does: lighttpd itself does that once in 64 seconds where it had just started it.
trap '' HUP
unset LD_PRELOAD # of a gateway's lighttpd
until ./access_log 7>&-; do # 7: cluster.bash waits for lighttpd alone
    sleep 0.05
done
