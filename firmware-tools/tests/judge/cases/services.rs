//! The services: shells, tunnels, adbd itself.

use bytes::Bytes;

use super::{Case, Mask, Step};

pub(super) fn all() -> Vec<Case> {
    [shells(), shell_input(), others(), tunnels()].into_iter().flatten().collect()
}

fn shells() -> Vec<Case> {
    vec![
        Case::ask("shell", b"shell:echo hi", ""),
        Case::ask("shell-nul", b"shell:echo hi\0", ""),
        Case::ask("shell-nul-inside", b"shell:echo \0hi", ""),
        Case::ask("shell-raw", b"shell,raw:echo hi", ""),
        Case::ask("shell-unknown-option", b"shell,nonsense:echo hi", ""),
        Case::ask("shell-stderr", b"shell:echo out; echo err >&2", ""),
        Case::ask("shell-terminal", b"shell,pty:echo hi", ""),
        Case::ask("shell-v2", b"shell,v2,raw:echo hi", ""),
        Case::ask("shell-v2-no-type", b"shell,v2:exit 3", ""),
        Case::ask("shell-v2-unknown-option", b"shell,v2,nonsense,raw:echo hi", ""),
        Case::ask("shell-v2-exit", b"shell,v2,raw:exit 3", ""),
        Case::ask("shell-v2-stderr", b"shell,v2,raw:echo err >&2; exit 7", ""),
        Case::ask("shell-v2-terminal", b"shell,v2,pty:echo hi", ""),
        Case::ask("shell-v2-false", b"shell,v2,raw:false", ""),
        Case::ask("shell-v2-not-found", b"shell,v2,raw:no-such-command 2>/dev/null", ""),
        Case::ask("exec", b"exec:echo hi", ""),
        Case::ask("exec-stderr", b"exec:echo out; echo err >&2; exit 4", ""),
    ]
}

fn shell_input() -> Vec<Case> {
    let close_stdin = || Step::Write(Bytes::from_static(b"\x04\0\0\0\0"));
    vec![
        Case::ask("exec-stdin", b"exec:cat", "abc"),
        Case::ask("shell-v2-stdin", b"shell,v2,raw:cat", &b"\0\x03\0\0\0abc"[..]).then(close_stdin()),
        Case::ask("shell-v2-stdin-empty", b"shell,v2,raw:cat", &b"\x04\0\0\0\0"[..]),
        Case::ask("shell-v2-stdin-in-pieces", b"shell,v2,raw:cat", &b"\0\x06\0\0"[..])
            .then(Step::Write(Bytes::from_static(b"\0abcdef")))
            .then(close_stdin()),
        Case::ask("shell-v2-unknown-packet", b"shell,v2,raw:cat", &b"\x09\x03\0\0\0abc"[..]).then(close_stdin()),
        Case::ask("shell-v2-window-size", b"shell,v2,raw:cat", &b"\x05\x0e\0\0\x0024x80,640x480\0"[..])
            .then(close_stdin()),
        Case::ask("shell-v2-lines", b"shell,v2,raw:", &b"\0\x08\0\0\0echo hi\n"[..]).then(close_stdin()),
    ]
}

fn others() -> Vec<Case> {
    let none: [(&'static str, &'static [u8]); 15] = [
        ("no-service", b""),
        ("only-a-nul", b"\0"),
        ("only-a-colon", b":"),
        ("unknown-service", b"nonsense:x"),
        ("shell-without-colon", b"shell"),
        ("sync-without-colon", b"sync"),
        ("jdwp-of-nobody", b"jdwp:1"),
        ("track-jdwp", b"track-jdwp"),
        ("track-app", b"track-app"),
        ("tcp-closed-port", b"tcp:9"),
        ("tcp-no-port", b"tcp:abc"),
        ("local-socket-of-nobody", b"localabstract:nobody"),
        ("device-node-of-nobody", b"dev:/dev/nobody"),
        ("host-service", b"host:version"),
        ("abb-nothing", b"abb:"),
    ];
    let android: [(&'static str, &'static [u8]); 6] = [
        ("abb-exec", b"abb_exec:package\0list\0packages"),
        ("root", b"root:"),
        ("unroot", b"unroot:"),
        ("tcpip", b"tcpip:5555"),
        ("tcpip-no-port", b"tcpip:abc"),
        ("remount", b"remount:"),
    ];
    none.into_iter().chain(android).map(|(name, service)| Case::ask(name, service, "")).collect()
}

fn tunnels() -> Vec<Case> {
    let one = |name, service| Case::ask(name, service, "").masked(Mask::Numbers);
    vec![
        one("reverse-nothing", b"reverse:"),
        one("reverse-unknown", b"reverse:foo"),
        one("reverse-list-none", b"reverse:list-forward"),
        one("reverse-forward", b"reverse:forward:tcp:7001;tcp:1234"),
        one("reverse-forward-any-port", b"reverse:forward:tcp:0;tcp:1234"),
        one("reverse-no-remote", b"reverse:forward:tcp:7002"),
        one("reverse-empty-remote", b"reverse:forward:tcp:7002;"),
        one("reverse-star", b"reverse:forward:tcp:7002;*x"),
        one("reverse-three", b"reverse:forward:tcp:7002;tcp:1;tcp:2"),
        one("reverse-bad-port", b"reverse:forward:tcp:99999;tcp:1"),
        one("reverse-host-name", b"reverse:forward:tcp:abc;tcp:1"),
        one("reverse-unknown-kind", b"reverse:forward:foo:1;tcp:2"),
        one("reverse-kill-nothing", b"reverse:killforward:"),
        one("reverse-kill-unknown", b"reverse:killforward:tcp:7009"),
        one("reverse-kill-all", b"reverse:killforward-all"),
    ]
}
