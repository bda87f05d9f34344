//! The services: shells, tunnels, adbd itself.

use bytes::Bytes;

use super::{Case, Mask, Step};

pub(super) fn all() -> Vec<Case> {
    [shells(), shell_input(), others(), androids(), restarts(), ports(), tunnels(), tunnels_kept()]
        .into_iter()
        .flatten()
        .collect()
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
    let more: [(&'static str, &'static [u8]); 9] = [
        ("unknown-service-with-options", b"nonsense,v2:x"),
        ("no-utf8", b"\xff\xfe:x"),
        ("space-before-the-name", b" shell:echo hi"),
        ("upper-case", b"SHELL:echo hi"),
        ("local-file-socket-of-nobody", b"localfilesystem:/nobody"),
        ("local-reserved-socket-of-nobody", b"localreserved:nobody"),
        ("host-prefix", b"host-serial:S1:features"),
        ("jdwp-no-number", b"jdwp:abc"),
        ("smartsocket", b"*smartsocket*"),
    ];
    none.into_iter().chain(more).map(|(name, service)| Case::ask(name, service, "")).collect()
}

/// What Debian's adbd was built without.
fn androids() -> Vec<Case> {
    let services: [(&'static str, &'static [u8]); 21] = [
        ("abb-exec", b"abb_exec:package\0list\0packages"),
        ("abb-exec-arguments", b"abb_exec:package\0path\0org.example.nobody"),
        ("abb-exec-settings", b"abb_exec:settings\0get\0global\0adb_enabled"),
        ("abb-exec-no-service", b"abb_exec:nobody\0x"),
        ("abb", b"abb:settings\0get\0global\0adb_enabled"),
        ("abb-no-service", b"abb:nobody"),
        ("root", b"root:"),
        ("unroot", b"unroot:"),
        ("tcpip", b"tcpip:5555"),
        ("tcpip-no-port", b"tcpip:abc"),
        ("tcpip-nothing", b"tcpip:"),
        ("tcpip-0", b"tcpip:0"),
        ("tcpip-negative", b"tcpip:-1"),
        ("tcpip-too-high", b"tcpip:70000"),
        ("usb", b"usb:"),
        ("remount", b"remount:"),
        ("framebuffer", b"framebuffer:"),
        ("backup", b"backup:-all"),
        ("restore", b"restore:"),
        ("disable-verity", b"disable-verity:"),
        ("reboot-sideload", b"reboot:sideload"),
    ];
    // adbd leaves for these, and with it the connections of all others.
    let alone = ["tcpip", "tcpip-too-high", "usb"];
    let case = |(name, service)| {
        let case = Case::ask(name, service, "");
        if alone.contains(&name) { case.alone() } else { case }
    };
    services.into_iter().map(case).collect()
}

fn restarts() -> Vec<Case> {
    vec![
        Case::ask("reboot", b"reboot:", "").alone(),
        Case::ask("reboot-bootloader", b"reboot:bootloader", "").alone(),
        Case::ask("reboot-recovery", b"reboot:recovery", "").alone(),
        // Not `reconnect`: adbd hangs up on a thread of its own, before or after its OKAY.
        Case::ask("reconnect-colon", b"reconnect:", ""),
    ]
}

/// A port where somebody is: see `ECHO_PORT`. As from a real host with a NUL behind it: adbd reads on without.
fn ports() -> Vec<Case> {
    let write = |bytes: &'static [u8]| Step::Write(Bytes::from_static(bytes));
    vec![
        Case::new("tcp-port", vec![Step::open(b"tcp:7300\0"), write(b"abc"), write(b"def"), Step::Close]),
        Case::new("tcp-port-empty-wrte", vec![Step::open(b"tcp:7300\0"), write(b""), write(b"abc"), Step::Close]),
        Case::new("tcp-port-and-host", vec![Step::open(b"tcp:7300:127.0.0.1\0"), write(b"abc"), Step::Close]),
        Case::ask("tcp-port-0", b"tcp:0\0", ""),
        Case::ask("tcp-port-too-high", b"tcp:99999\0", ""),
        Case::ask("tcp-port-nothing", b"tcp:\0", ""),
        Case::ask("tcp-port-negative", b"tcp:-1\0", ""),
    ]
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

/// Several requests of one connection, whose tunnels are kept meanwhile.
fn tunnels_kept() -> Vec<Case> {
    let of = |name, services: &[&'static [u8]]| {
        let mut services = services.iter();
        let first = services.next().map(|service| Step::open(service));
        let steps = first.into_iter().chain(services.map(|service| Step::again(service))).collect();
        Case::new(name, steps).masked(Mask::Numbers)
    };
    vec![
        of("reverse-norebind", &[b"reverse:forward:norebind:tcp:7010;tcp:1"]),
        of(
            "reverse-norebind-again",
            &[b"reverse:forward:tcp:7011;tcp:1", b"reverse:forward:norebind:tcp:7011;tcp:2", b"reverse:list-forward"],
        ),
        of(
            "reverse-rebind",
            &[b"reverse:forward:tcp:7012;tcp:1", b"reverse:forward:tcp:7012;tcp:2", b"reverse:list-forward"],
        ),
        of("reverse-norebind-nothing", &[b"reverse:forward:norebind:"]),
        of("reverse-norebind-no-remote", &[b"reverse:forward:norebind:tcp:7013"]),
        of(
            "reverse-list",
            &[b"reverse:forward:tcp:7014;tcp:1", b"reverse:forward:tcp:7015;localabstract:x", b"reverse:list-forward"],
        ),
        of(
            "reverse-kill",
            &[b"reverse:forward:tcp:7016;tcp:1", b"reverse:killforward:tcp:7016", b"reverse:list-forward"],
        ),
        of(
            "reverse-kill-twice",
            &[b"reverse:forward:tcp:7017;tcp:1", b"reverse:killforward:tcp:7017", b"reverse:killforward:tcp:7017"],
        ),
        of("reverse-kill-two", &[b"reverse:forward:tcp:7018;tcp:1", b"reverse:killforward:tcp:7018;tcp:1"]),
        of(
            "reverse-kill-all-of-two",
            &[
                b"reverse:forward:tcp:7019;tcp:1",
                b"reverse:forward:tcp:7020;tcp:2",
                b"reverse:killforward-all",
                b"reverse:list-forward",
            ],
        ),
        of("reverse-port-in-use", &[b"reverse:forward:tcp:7300;tcp:1"]),
    ]
}
