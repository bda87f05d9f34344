#!/bin/sh
# Runs an adbd in a root of its own, so that nothing that is asked of it harms this machine: a tmpfs with Android's folders, and this
# machine's programs beside them. Called by the judge inside a fresh mount and process namespace: adbd.sh <the command of fetch-adbd.sh>
set -eu
root=$(mktemp -d)
mount -t tmpfs judge "$root"
for folder in bin sbin lib lib64 usr etc dev proc; do
    if [ -L "/$folder" ]; then
        cp -P "/$folder" "$root/$folder"
    elif [ -d "/$folder" ]; then
        mkdir "$root/$folder"
        mount --rbind "/$folder" "$root/$folder"
    fi
done
# It names itself by its real path, and the folder of what is fetched may be a link.
command=$(realpath "$1")
fetched=$(dirname "$command")
mkdir -p "$root/$fetched" "$root/data/local/tmp" "$root/sdcard" "$root/tmp"
mount --bind "$fetched" "$root/$fetched"
chmod 775 "$root" "$root/data/local/tmp"
if [ $# -gt 1 ]; then
    mkdir -p "$root/system/bin"
    mount --bind "$2" "$root/system/bin"
    PATH=/system/bin:$PATH
fi
umask 0
exec chroot "$root" "$command"
