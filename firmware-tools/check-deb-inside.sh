#!/bin/bash
# Run by check-deb.sh inside a fresh Debian: the life of an installation, from dpkg -i to purge. Fails at the first surprise.
set -euo pipefail
trap 'echo "failed at line $LINENO: $BASH_COMMAND"' ERR
export DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin

say() { echo "== $*"; }
files() { # everything on disk but what a system writes down of itself; the user stays, and with it the backups of its files
  find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /run -o -path /var/log -o -path /var/cache \
    -o -path /var/lib/dpkg -o -path /farmhand.deb -o -path /check.sh -o -path '/etc/*-' -o -path /etc/.pwd.lock \) -prune -o -print | sort
}

say "before"
files > /tmp/before

say "install"
dpkg -i /farmhand.deb
test "$(stat -c '%a %U:%G' /etc/farmhand/farmhand.toml)" = "640 root:farmhand"
test -x /usr/bin/farmhand
for file in lib/systemd/system/farmhand.service lib/sysusers.d/farmhand.conf lib/modules-load.d/farmhand.conf \
  lib/udev/rules.d/70-farmhand.rules share/man/man1/farmhand.1.gz share/bash-completion/completions/farmhand; do
  test -s /usr/$file
done
dpkg-query -W -f='${Conffiles}\n' farmhand | grep -q ' /etc/farmhand/farmhand.toml '

say "user"
getent passwd farmhand | grep -q ':/usr/sbin/nologin$'
id -nG farmhand | tr ' ' '\n' | grep -qx dialout

say "unit"
test -L /etc/systemd/system/multi-user.target.wants/farmhand.service
systemd-analyze --man=no verify /usr/lib/systemd/system/farmhand.service

say "program"
farmhand --version
farmhand config check
farmhand config show | grep -q '# \[agent\] is off'

say "daemon, as its user, observing"
install -d -o farmhand -g farmhand -m 750 /var/lib/farmhand
setpriv --reuid=farmhand --regid=farmhand --init-groups farmhand run &
daemon=$!
for _ in $(seq 100); do farmhand status 2>/dev/null && break; sleep 0.1; done
farmhand status --json | grep -q '"revision"'
kill -TERM $daemon
wait $daemon

say "upgrade keeps the owner's changes"
echo '# mine' >> /etc/farmhand/farmhand.toml
dpkg -i /farmhand.deb
grep -q '^# mine$' /etc/farmhand/farmhand.toml
test -n "$(ls -A /var/lib/farmhand)"

say "remove keeps them too"
dpkg -r farmhand
test ! -e /usr/bin/farmhand
grep -q '^# mine$' /etc/farmhand/farmhand.toml

say "purge"
dpkg -P farmhand
files > /tmp/after
diff /tmp/before /tmp/after
say "no trace"
